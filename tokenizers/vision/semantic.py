"""The semantic branch: what the bits say must tell, linearly, what a vision foundation model sees.

    loss = mean over the teacher's cells of max(0, 1 - margin - cos(P z, f)),     z = the quantized sum (gradient straight through),
    resized to the teacher's grid; P = a linear map that is trained beside and thrown away; f = the frozen teacher's features

Report: §2.2.1 (semantic-regularisation loss against vision foundation models). Margin: VA-VAE (arXiv 2501.01423). Ours: where it acts.
A teacher of one's own is made by `Class.load(folder)`; it has `dim` and maps pictures to features like `Dinov2`.
Letters: n pictures, d bits, c the teacher's channels, h w pixels in [-1, 1], h' w' cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ernie5.run.parts import load_part
from ernie5.tokenizers.vision.perceptual import IMAGENET_MEAN, IMAGENET_SCALE


@dataclass(frozen=True)
class SemanticConfig:
    """`part`: off, dinov2, or module:Class with `load(folder)`. `folder`: a local checkpoint. `margin`: the distance that costs nothing."""

    part: str = "off"
    folder: str = ""
    weight: float = 0.5
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.part not in ("off", "dinov2") and ":" not in self.part:
            raise ValueError(f"semantic.part = {self.part} must be off, dinov2 or module:Class")
        if self.part == "dinov2" and not self.folder:
            raise ValueError("semantic.folder is empty; name the local folder of a DINOv2 checkpoint (config.json and model.safetensors)")
        if not 0 <= self.margin < 1:
            raise ValueError(f"semantic.margin = {self.margin} must be at least 0 and below 1; for example 0.1")


class Teacher(Protocol):
    """A frozen vision model."""

    dim: int

    def features(self, pixels: Tensor) -> Tensor:
        """`n 3 h w` in [-1, 1] -> `n c h' w'`, no gradient."""

    def to(self, device: str) -> Teacher: ...


class Dinov2:
    """DINOv2, with or without registers, through transformers."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.dim = int(model.config.hidden_size)
        self.patch = int(model.config.patch_size)

    @classmethod
    def load(cls, folder: str) -> Dinov2:
        """From a local folder; nothing is fetched. ValueError when transformers or the folder is missing."""
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise ValueError("semantic.part = dinov2 needs the package transformers; pip install transformers") from error
        if not (Path(folder) / "config.json").is_file():
            raise ValueError(f"semantic.folder = {folder} must be a local folder of a DINOv2 checkpoint; it lacks config.json")
        try:
            return cls(AutoModel.from_pretrained(folder, local_files_only=True))
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(f"semantic.folder = {folder} cannot be read as DINOv2: {error}") from error

    def to(self, device: str) -> Dinov2:
        self.model.to(device)
        return self

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Tensor:
        """`n 3 h w` in [-1, 1] -> `n c h' w'`; pictures are resized to whole patches."""
        rows, columns = (max(1, round(side / self.patch)) for side in pixels.shape[-2:])
        x = F.interpolate(pixels, (rows * self.patch, columns * self.patch), mode="bilinear", align_corners=False, antialias=True)
        mean, scale = (x.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_SCALE))
        tokens = self.model(pixel_values=((x + 1) / 2 - mean) / scale).last_hidden_state
        return rearrange(tokens[:, -rows * columns:], "n (h w) c -> n c h w", h=rows)  # class and register tokens come first


class SemanticBranch(nn.Module):
    """`(total, pixels) -> loss`. The projection is trained; the teacher is no part of the module's state."""

    def __init__(self, teacher: Teacher, bits: int, margin: float) -> None:
        super().__init__()
        self.projection = nn.Conv2d(bits, teacher.dim, 1)
        self.margin = margin
        self._teacher = (teacher,)

    def forward(self, total: Tensor, pixels: Tensor) -> Tensor:
        """total `n d h' w'` with a straight-through gradient, pixels `n 3 h w` -> a scalar."""
        wanted = self._teacher[0].features(pixels).float()
        told = F.interpolate(self.projection(total), wanted.shape[-2:], mode="bilinear", align_corners=False, antialias=True)
        return F.relu(1 - self.margin - F.cosine_similarity(told, wanted, dim=1)).mean()


def load_semantic(config: SemanticConfig, bits: int, device: str = "cpu") -> SemanticBranch | None:
    """The branch of the settings; None when off."""
    if config.part == "off":
        return None
    part: Any = Dinov2 if config.part == "dinov2" else load_part(config.part, Teacher)
    return SemanticBranch(part.load(config.folder).to(device), bits, config.margin).to(device)
