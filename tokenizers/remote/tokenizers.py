"""Tokenizers whose work is done by a service: the same contracts (tokenizers/base.py), the same codes, the same errors.

The vision quantizer is here, made of what the service tells, because grouping quantizes in the trainer. Ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ernie5.sequence import Modality
from ernie5.tokenizers.base import VisionCodes
from ernie5.tokenizers.remote.address import Address
from ernie5.tokenizers.remote.client import Service
from ernie5.tokenizers.remote.describe import rebuild_quantizer
from ernie5.tokenizers.remote.errors import ServiceFailed
from ernie5.tokenizers.remote.frames import Message
from ernie5.tokenizers.remote.media import Payload, from_tensors, to_tensors


class Remote:
    """What the three have in common."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.fingerprint = service.told.fingerprint

    def _ask(self, op: str, value: Payload, wanted: type) -> Payload:
        answer = from_tensors(self.service.ask(Message({"op": op}, to_tensors(value))).tensors)
        if not isinstance(answer, wanted):
            raise ServiceFailed(f"the {self.service.kind} tokenizer service answered {op} with a {type(answer).__name__}, not a "
                                f"{wanted.__name__}")
        return answer


class RemoteText(Remote):
    """A `TextTokenizer`."""

    modality = Modality.TEXT

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.vocab_size = int(service.told.sizes["vocab_size"])

    def encode(self, media: str) -> Tensor:
        """Text -> ids int64 `n`."""
        return self._ask("encode", media, Tensor)  # type: ignore[return-value]

    def decode(self, codes: Tensor | Iterable[int]) -> str:
        """Ids `n` -> text."""
        ids = codes if isinstance(codes, Tensor) else torch.tensor(list(codes), dtype=torch.int64)
        return self._ask("decode", ids, str)  # type: ignore[return-value]


class RemoteVision(Remote):
    """A `VisionTokenizer`."""

    modality = Modality.IMAGE

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        sizes = service.told.sizes
        self.stride, self.temporal_stride = int(sizes["stride"]), int(sizes["temporal_stride"])
        self.feature_dim = int(sizes["feature_dim"])
        self.quantizer = rebuild_quantizer(service.told)

    def encode(self, media: Tensor) -> VisionCodes:
        """uint8 `t c h w` -> latent and features."""
        return self._ask("encode", media, VisionCodes)  # type: ignore[return-value]

    def decode(self, codes: Tensor) -> Tensor:
        """The quantized sum over scales `t' d h' w'` -> uint8 `t c h w`."""
        return self._ask("decode", codes, Tensor)  # type: ignore[return-value]


class RemoteAudio(Remote):
    """An `AudioTokenizer`."""

    modality = Modality.AUDIO

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        sizes = service.told.sizes
        self.num_codebooks, self.codebook_size = int(sizes["num_codebooks"]), int(sizes["codebook_size"])
        self.sample_rate_hz, self.frame_rate_hz = int(sizes["sample_rate_hz"]), float(sizes["frame_rate_hz"])

    def encode(self, media: Tensor) -> Tensor:
        """Sound float `n` -> codes int64 `f Q`."""
        return self._ask("encode", media, Tensor)  # type: ignore[return-value]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes `f Q` -> sound float `n`."""
        return self._ask("decode", codes, Tensor)  # type: ignore[return-value]


def open_remote(kind: str, addresses: Sequence[Address], patience_s: float = 300.0) -> RemoteText | RemoteVision | RemoteAudio:
    """The tokenizer that these replicas serve. ServiceError when none answers within `patience_s`, or one cannot be used."""
    service = Service(kind, addresses, patience_s)
    match kind:
        case "text":
            return RemoteText(service)
        case "vision":
            return RemoteVision(service)
        case "audio":
            return RemoteAudio(service)
    raise ValueError(f"{kind!r} is no kind of tokenizer; use text, vision or audio")
