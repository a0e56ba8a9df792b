"""What a service says of a tokenizer, so that a run can be built without its weights: fingerprint, sizes, and the vision quantizer.

Quantizing stays with the trainer, because grouping corrupts histories and quantizes again: its statistics travel as tensors. Ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from ernie5.config_build import build
from ernie5.config_yaml import locate
from ernie5.tokenizers.base import Quantizer
from ernie5.tokenizers.remote.frames import FrameError, Message
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.scales import ScaleConfig

SIZES: dict[str, dict[str, type]] = {
    "text": {"vocab_size": int},
    "vision": {"stride": int, "temporal_stride": int, "feature_dim": int},
    "audio": {"num_codebooks": int, "codebook_size": int, "sample_rate_hz": int, "frame_rate_hz": float},
}
KINDS = tuple(SIZES)
MOST = 2**20  # of scales or bits: they make tables


@dataclass(frozen=True)
class Described:
    """`quantizer`: settings and tensors of a vision tokenizer's."""

    kind: str
    fingerprint: str
    sizes: dict[str, int | float]
    quantizer: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def header(self) -> dict[str, Any]:
        return {"kind": self.kind, "fingerprint": self.fingerprint, "sizes": self.sizes, "quantizer": self.quantizer}

    def shown(self) -> str:
        """One line for people."""
        sizes = self.sizes | ({"bits": self.quantizer["bits"]} if self.quantizer else {})
        return f"fingerprint {self.fingerprint}  " + ", ".join(f"{name} {value:g}" for name, value in sizes.items())


def describe(kind: str, tokenizer: Any) -> Described:
    """ValueError for a vision tokenizer with a quantizer of its own kind: trainers could not rebuild it."""
    sizes = {name: of_type(getattr(tokenizer, name)) for name, of_type in SIZES[kind].items()}
    if kind != "vision":
        return Described(kind, tokenizer.fingerprint, sizes)
    quantizer = tokenizer.quantizer
    if type(quantizer) is not MultiscaleResidualQuantizer:
        raise ValueError(f"the vision tokenizer quantizes with its own {type(quantizer).__name__}, which trainers cannot rebuild; use it "
                         "in the trainer (tokenizers.parts.vision) or a MultiscaleResidualQuantizer")
    settings = {"num_scales": quantizer.levels.num_scales, "bits": quantizer.bits, "scales": asdict(quantizer.schedule)}
    return Described(kind, tokenizer.fingerprint, sizes, settings, dict(quantizer.state_dict()))


def described(message: Message) -> Described:
    """What `Described.header` and `tensors` say. FrameError where something is missing."""
    kind, sizes = message.get("kind", str), message.get("sizes", dict)
    if kind not in SIZES or sizes.keys() != SIZES[kind].keys() or any(type(sizes[k]) is not t for k, t in SIZES[kind].items()):
        raise FrameError("a tokenizer is described with other sizes than this version knows")
    if min(sizes.values()) <= 0:
        raise FrameError("a tokenizer is described with sizes that are not positive")
    return Described(kind, message.get("fingerprint", str), sizes, message.get("quantizer", dict), message.tensors)


def rebuild_quantizer(told: Described) -> Quantizer:
    """The quantizer of a vision tokenizer. FrameError when its tensors do not fit its settings."""
    num_scales, bits = told.quantizer.get("num_scales"), told.quantizer.get("bits")
    if not (type(num_scales) is int and type(bits) is int and 0 < num_scales * bits <= MOST and min(num_scales, bits) > 0):
        raise FrameError(f"a quantizer of num_scales = {num_scales!r}, bits = {bits!r} cannot be rebuilt")
    try:
        schedule = build(ScaleConfig, locate(told.quantizer.get("scales"), "the service"), "scales")
    except ValueError as error:
        raise FrameError(f"a quantizer of these scales cannot be rebuilt: {error}") from None
    quantizer: nn.Module = MultiscaleResidualQuantizer(num_scales, bits, schedule)
    try:
        quantizer.load_state_dict(told.tensors)
    except RuntimeError as error:
        raise FrameError(f"a quantizer of {num_scales} scales and {bits} bits came with other tensors: {error}") from None
    return quantizer.eval()  # type: ignore[return-value]
