"""Media and codes as tensors of a message, and back. Text travels as its UTF-8 bytes, lone surrogates too. Ours."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ernie5.tokenizers.base import VisionCodes
from ernie5.tokenizers.remote.frames import FrameError

Payload = str | Tensor | VisionCodes


def to_tensors(value: Payload) -> dict[str, Tensor]:
    """A text, a tensor or the codes of a picture."""
    if isinstance(value, VisionCodes):
        return {"latent": value.latent, "features": value.features}
    if isinstance(value, str):
        return {"text": torch.frombuffer(bytearray(value.encode("utf-8", "surrogatepass")), dtype=torch.uint8) if value else
                torch.empty(0, dtype=torch.uint8)}
    return {"tensor": value}


def from_tensors(tensors: Mapping[str, Tensor]) -> Payload:
    """The reverse. FrameError for anything that `to_tensors` does not make."""
    match sorted(tensors):
        case ["features", "latent"]:
            return VisionCodes(tensors["latent"], tensors["features"])
        case ["tensor"]:
            return tensors["tensor"]
        case ["text"] if tensors["text"].dtype == torch.uint8:
            try:
                return tensors["text"].numpy().tobytes().decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                pass
    raise FrameError(f"a message carries neither a text nor a medium nor codes: {', '.join(sorted(tensors))[:80]}")
