"""A coded sample as bytes and back, for the way from a worker process to its trainer.

    4 bytes: length of the header | header, JSON: id, attributes, draw, what is text and what a tensor | the bytes of the tensors in order

Nothing that comes back is code (no pickle). Ours.
"""

from __future__ import annotations

import json
import struct

import numpy as np
import torch
from torch import Tensor

from ernie5.data_pipelines.encode import CodedSample
from ernie5.sequence import Modality, Role, Sample, Segment
from ernie5.tokenizers.base import VisionBits, VisionCodes


def to_bytes(coded: CodedSample) -> bytes:
    """The bytes of a coded sample; `from_bytes` gives an equal one."""
    tensors: list[Tensor] = []

    def put(value: str | Tensor | VisionCodes | VisionBits) -> object:
        if isinstance(value, str):
            return value
        if isinstance(value, VisionCodes | VisionBits):
            return {name: put(tensor) for name, tensor in vars(value).items()}
        tensors.append(value.detach().cpu().contiguous())
        return [str(value.dtype).removeprefix("torch."), list(value.shape)]

    pairs = zip(coded.sample.segments, coded.codes, strict=True)
    segments = [[segment.modality.value, segment.role.value, put(segment.media), put(codes),
                 None if segment.speaker is None else put(segment.speaker)] for segment, codes in pairs]
    header = json.dumps({"id": coded.sample.id, "attributes": coded.sample.attributes, "draw": coded.draw,
                         "segments": segments}).encode()
    body = (tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"" for tensor in tensors)
    return b"".join([struct.pack("<I", len(header)), header, *body])


def from_bytes(data: bytes) -> CodedSample:
    """The reverse of `to_bytes`."""
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    at = 4 + length

    def get(value: object) -> str | Tensor | VisionCodes | VisionBits:
        nonlocal at
        if isinstance(value, str):
            return value
        if isinstance(value, dict):
            parts = {name: get(part) for name, part in value.items()}
            return VisionCodes(**parts) if "latent" in parts else VisionBits(**parts)  # type: ignore[arg-type]
        assert isinstance(value, list)
        dtype, shape = getattr(torch, value[0]), value[1]
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if size == 0:
            return torch.zeros(shape, dtype=dtype)
        raw = np.frombuffer(data, np.uint8, size, at).copy()  # a tensor that owns and may change its memory
        at += size
        return torch.from_numpy(raw).view(dtype).reshape(shape)

    segments, codes = [], []
    for modality, role, media, code, speaker in header["segments"]:
        medium, coded = get(media), get(code)
        segments.append(Segment(Modality(modality), medium, Role(role), None if speaker is None else get(speaker)))  # type: ignore[arg-type]
        codes.append(coded)
    sample = Sample(header["id"], tuple(segments), header["attributes"])
    return CodedSample(sample, tuple(codes), header["draw"])  # type: ignore[arg-type]
