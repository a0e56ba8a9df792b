"""A coded sample as members of a tar, and back.

    0.txt          a text, the bytes that it had                     2.png, 3.png   pixels of an image, or all frames, one below the other
    safetensors    "0" ids n · "2.latent" t' d h' w' · "2.bits" · "2.features" t c h' w'
                   "4" codes f Q · "4.speaker" n, who speaks
Sounds keep only their codes. Pixels stand for the original file, as the model gets them, because the understanding encoder reads them.
What comes back is checked: dtypes, shapes against each other, ranges, finite numbers.
Ours: the layout. Letters: n ids, t frames, t' latent frames, d bits, c channels, h' w' latent grid, f codec frames, Q codebooks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ernie5.data_pipelines.decode_media import decode_text
from ernie5.data_pipelines.encode import CodedSample
from ernie5.data_pipelines.media_limits import MAX_PIXELS, BadMedia, MediaLimits, reason_of
from ernie5.data_pipelines.speaker import checked
from ernie5.data_pipelines.tokenized.tensors import from_bytes, take, to_bytes, within
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality, Sample, Segment
from ernie5.tokenizers.base import Quantizer, VisionBits, VisionCodes
from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS

CODES = "safetensors"
PNG_LEVEL = 1


@dataclass(frozen=True)
class Keep:
    """What is kept of pictures and clips. `bits`: their bits instead of the latent. `understood`: pixels and features, without which a
    medium can only be generated.
    """

    bits: bool = False
    understood: bool = True


def pack(coded: CodedSample, texts: Mapping[int, bytes], keep: Keep, quantizer: Quantizer) -> tuple[dict[str, bytes], list[dict]]:
    """Members by name, and what the sample's JSON says of its segments. `texts`: the stored bytes of text segments."""
    members: dict[str, bytes] = {}
    tensors: dict[str, Tensor] = {}
    segments: list[dict] = []
    for i, (segment, codes) in enumerate(zip(coded.sample.segments, coded.codes, strict=True)):
        said = {"modality": segment.modality.value}
        if isinstance(codes, Tensor):
            tensors[f"{i}"] = _small(codes)
            if segment.speaker is not None:
                tensors[f"{i}.speaker"] = segment.speaker.float()
            if segment.modality is Modality.TEXT:
                said["member"] = f"{i}.txt"
                members[said["member"]] = texts[i]
        else:
            assert isinstance(codes, VisionCodes) and isinstance(segment.media, Tensor)
            if keep.bits:
                flat = torch.cat([*quantizer.encode(codes.latent).bits], dim=1).bool()  # t' N d
                tensors[f"{i}.bits"] = torch.from_numpy(np.packbits(flat.numpy(), axis=-1))
                tensors[f"{i}.grid"] = torch.tensor(codes.shape[-2:], dtype=torch.int32)
            else:
                tensors[f"{i}.latent"] = codes.latent
            if keep.understood:
                tensors[f"{i}.features"] = codes.features
                said["member"] = f"{i}.png"
                members[said["member"]] = _png(segment.media)
        segments.append(said)
    return members | {CODES: to_bytes(tensors)}, segments


def unpack(id: str, attributes: dict, members: tuple[Member, ...], data: bytes, made: Mapping[str, dict], keep: Keep, limits: MediaLimits,
           quantizer: Quantizer | None = None) -> CodedSample:
    """The reverse of `pack`; `made`: what the shard says of how each kind of codes was made. `quantizer`: whose scales the grids of
    pictures must have, where it is at hand. ValueError for what cannot be.
    """
    tensors = from_bytes(data)
    segments, codes = [], []
    for i, member in enumerate(members):
        try:
            media, code = _segment(i, member, tensors, made, keep, limits)
            speaker = _speaker(i, member, tensors, made)
            if quantizer is not None and isinstance(code, VisionCodes | VisionBits):
                _check_scales(code, quantizer)
        except ValueError as error:
            raise BadMedia(f"segment {i} ({member.modality.value}): {error}") from error
        segments.append(Segment(member.modality, media, speaker=speaker))
        codes.append(code)
    if tensors:
        raise ValueError(f"its codes hold {sorted(tensors)[0][:40]!r}, which is of no segment")
    return CodedSample(Sample(id, tuple(segments), attributes), tuple(codes))


def _segment(i: int, member: Member, tensors: dict[str, Tensor], made: Mapping[str, dict], keep: Keep, limits: MediaLimits,
             ) -> tuple[str | Tensor, Tensor | VisionCodes | VisionBits]:
    if member.modality.value not in made:
        raise ValueError("its shard does not say what made such codes")
    sizes = made[member.modality.value]["sizes"]
    if member.modality is Modality.TEXT:
        ids = within(take(tensors, f"{i}", torch.int16, torch.int32, ndim=1), f"{i}", NUM_SPECIAL_TOKENS, sizes["vocab_size"])
        return decode_text(member.data, limits), ids
    if member.modality is Modality.AUDIO:
        frames = within(take(tensors, f"{i}", torch.int16, torch.int32, ndim=2), f"{i}", 0, sizes["codebook_size"])
        if frames.shape[1] != sizes["num_codebooks"] or not len(frames):
            raise ValueError(f"its codes {i} are {list(frames.shape)}, not frames of {sizes['num_codebooks']}")
        return torch.zeros(0), frames
    return _picture(i, member, tensors, sizes, keep, limits)


def _speaker(i: int, member: Member, tensors: dict[str, Tensor], made: Mapping[str, dict]) -> Tensor | None:
    if member.modality is not Modality.AUDIO or f"{i}.speaker" not in tensors:
        return None
    vector, dim = checked(take(tensors, f"{i}.speaker", torch.float32, ndim=1)), made["audio"]["settings"]["data.speaker.dim"]
    if len(vector) != dim:
        raise ValueError(f"its speaker vector has {len(vector)} numbers, not {dim}")
    return vector


def _picture(i: int, member: Member, tensors: dict[str, Tensor], sizes: dict, keep: Keep, limits: MediaLimits,
             ) -> tuple[Tensor, VisionCodes | VisionBits]:
    """Pixels (without channels where they are not kept) and codes; their shapes must follow from each other."""
    latent = bits = None
    if keep.bits:
        grid = within(take(tensors, f"{i}.grid", torch.int32, ndim=1), f"{i}.grid", 1, 2**15).tolist()
        packed = take(tensors, f"{i}.bits", torch.uint8, ndim=3)
        bits = torch.from_numpy(np.unpackbits(packed.numpy(), axis=-1)[..., : sizes["bits"]]).bool()
        num_frames, channels = len(bits), bits.shape[2] if packed.shape[2] == -(-sizes["bits"] // 8) else -1
    else:
        latent = take(tensors, f"{i}.latent", torch.float32, ndim=4)
        (num_frames, channels), grid = latent.shape[:2], list(latent.shape[2:])
    frames = 1 + (num_frames - 1) * sizes.get("temporal_stride", 1)
    if channels != sizes["bits"] or len(grid) != 2 or num_frames < 1 or (member.modality is Modality.IMAGE and num_frames > 1):
        raise ValueError(f"its codes are {num_frames} frames of {channels} bits on a grid of {grid}, which no {member.modality.value} has")
    height, width = (side * sizes["stride"] for side in grid)
    if height * width > limits.max_pixels or frames > limits.max_frames:
        raise ValueError(f"its codes are of {frames} x {height} x {width} pixels, more than max_frames or max_pixels")
    if keep.understood:
        features = take(tensors, f"{i}.features", torch.float32, ndim=4)
        if list(features.shape) != [frames, sizes["feature_dim"], *grid]:
            raise ValueError(f"its features are {list(features.shape)}, not {[frames, sizes['feature_dim'], *grid]}")
        pixels = _pixels(member.data, frames, height, width)
    else:
        features, pixels = torch.zeros(frames, 0, *grid), torch.zeros(frames, 0, height, width, dtype=torch.uint8)
    if latent is not None:
        return pixels, VisionCodes(latent, features)
    assert bits is not None
    return pixels, VisionBits(bits, features)


def _check_scales(codes: VisionCodes | VisionBits, quantizer: Quantizer) -> None:
    cells = sum(h * w for h, w in quantizer.scales(*codes.shape[-2:]))
    if isinstance(codes, VisionBits) and codes.bits.shape[1] != cells:
        raise ValueError(f"its bits are of {codes.bits.shape[1]} positions, not {cells}, which all scales of its grid have")


def _small(codes: Tensor) -> Tensor:
    """Ids and codes in 2 bytes where they fit."""
    return codes.to(torch.int16 if not codes.numel() or int(codes.max()) < 2**15 else torch.int32)


def _png(media: Tensor) -> bytes:
    """uint8 `t 3 h w`, all frames one below the other. ValueError where a reader would take it for a bomb."""
    if (count := media.numel() // 3) > MAX_PIXELS:
        raise ValueError(f"{len(media)} frames of {media.shape[2]} x {media.shape[3]} have {count} pixels, more than the {MAX_PIXELS} that "
                         "one sample of tokenized shards can hold; use smaller data.limits")
    file = BytesIO()
    Image.fromarray(rearrange(media, "t c h w -> (t h) w c").numpy()).save(file, "PNG", compress_level=PNG_LEVEL)
    return file.getvalue()


def _pixels(data: bytes, frames: int, height: int, width: int) -> Tensor:
    """uint8 `t 3 h w`. The size is checked before anything is decoded."""
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            if (image.mode, image.size) != ("RGB", (width, frames * height)):
                raise BadMedia(f"its pixels are {image.mode} of {image.size[0]} x {image.size[1]}, its codes those of {frames} x {height} "
                               f"x {width}")
            found = np.array(image)
    except BadMedia:
        raise
    except Exception as error:  # Pillow raises almost anything on damaged bytes
        raise BadMedia(f"its pixels are no readable PNG: {reason_of(error)}") from error
    return torch.from_numpy(rearrange(found, "(t h) w c -> t c h w", t=frames).copy())
