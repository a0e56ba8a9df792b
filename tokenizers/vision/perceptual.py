"""How different two pictures look to a network: the perceptual part of the loss, with weights that the user has on disk.

    VGG16:  sum over taps l of mean over cells of sum over channels  w_lc (x_lc / |x_l| - y_lc / |y_l|)^2      w = LPIPS's, else 1 / C_l
    taps after relu 1_2, 2_2, 3_3, 4_3, 5_3

One safetensors file holds torchvision's names (`features.0.weight` …) and, for LPIPS's own weights, its (`lin0.model.1.weight` …).
A class of one's own is made by `Class.load(path)` and called like `VggDistance`. Without any weights there is `gradient` (losses.py).
Source: LPIPS (arXiv 1801.03924). Letters: n pictures, c channels, h w pixels in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ernie5.run.parts import load_part

IMAGENET_MEAN, IMAGENET_SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of colours in 0..1
STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))           # torchvision's numbers of the convolutions before each tap


@dataclass(frozen=True)
class PerceptualConfig:
    """`part`: off, vgg16, or module:Class with `load(path)`. `path`: its weights."""

    part: str = "off"
    path: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.part not in ("off", "vgg16") and ":" not in self.part:
            raise ValueError(f"perceptual.part = {self.part} must be off, vgg16 or module:Class")
        if self.part == "vgg16" and not self.path:
            raise ValueError("perceptual.path is empty; name a safetensors file with VGG16's weights under torchvision's names")


class VggDistance(nn.Module):
    """`(output, target)`, both `n 3 h w` in [-1, 1] -> a scalar, 0 for equal pictures. `lins`: one weight per channel of each tap."""

    def __init__(self, lins: Mapping[int, Tensor]) -> None:
        super().__init__()
        sizes = (64, 128, 256, 512, 512)
        self.stages = nn.ModuleList()
        inputs = 3
        for stage, (size, numbers) in enumerate(zip(sizes, STAGES, strict=True)):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if stage else []
            for _ in numbers:
                layers += [nn.Conv2d(inputs, size, 3, padding=1), nn.ReLU()]
                inputs = size
            self.stages.append(nn.Sequential(*layers))
        for stage, size in enumerate(sizes):
            self.register_buffer(f"lin{stage}", lins[stage].flatten().clone() if lins else torch.full((size,), 1 / size))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(IMAGENET_SCALE).view(3, 1, 1))

    @classmethod
    def load(cls, path: str) -> VggDistance:
        """From a safetensors file; ValueError when it is none, or lacks a layer."""
        try:
            tensors = load_file(Path(path))
        except (OSError, SafetensorError) as error:
            raise ValueError(f"perceptual.path = {path} is no safetensors file of VGG16: {error}") from error
        lins = {i: tensors[name].float() for i in range(len(STAGES)) if (name := f"lin{i}.model.1.weight") in tensors}
        if lins and len(lins) < len(STAGES):
            raise ValueError(f"perceptual.path = {path} has LPIPS weights for {len(lins)} of {len(STAGES)} taps; give all or none")
        distance = cls(lins)
        for stage, numbers in zip(distance.stages, STAGES, strict=True):
            convolutions = [layer for layer in stage.children() if isinstance(layer, nn.Conv2d)]
            for convolution, number in zip(convolutions, numbers, strict=True):
                for kind in ("weight", "bias"):
                    _put(getattr(convolution, kind), tensors, f"features.{number}.{kind}", path)
        return distance

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        x, y = (((pixels + 1) / 2 - self.mean) / self.scale for pixels in (output, target))
        total = output.new_zeros(())
        for number, stage in enumerate(self.stages):
            if min(x.shape[-2:]) < 2 and number:
                break  # a picture of a few pixels has nothing left to pool
            x, y = stage(x), stage(y)
            difference = (F.normalize(x, dim=1, eps=1e-8) - F.normalize(y, dim=1, eps=1e-8)).square()
            total = total + torch.einsum("nchw,c->nhw", difference, getattr(self, f"lin{number}")).mean()
        return total


def load_perceptual(config: PerceptualConfig) -> nn.Module | None:
    """The frozen network of the settings; None when off."""
    if config.part == "off":
        return None
    part: Any = VggDistance if config.part == "vgg16" else load_part(config.part, nn.Module)
    made: nn.Module = part.load(config.path)
    return made.eval().requires_grad_(False)


def _put(parameter: Tensor, tensors: Mapping[str, Tensor], name: str, path: str) -> None:
    if name not in tensors or tensors[name].shape != parameter.shape:
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        raise ValueError(f"perceptual.path = {path}: {name} must be {tuple(parameter.shape)}, not {found}; save torchvision's VGG16")
    with torch.no_grad():
        parameter.copy_(tensors[name])
