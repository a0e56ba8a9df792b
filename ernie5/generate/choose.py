"""From logits to choices: temperature, guidance, and audio codes that are chosen in the middle of a pass.

    guidance g:  logits = u + g (c - u),  c with the prompt's text, u without;  g = 1 is no guidance and needs no second row

With guidance the batch holds 2n rows, first all with text, then all without; both get the same choice.
Ours: the report gives no sampling settings. Letters: m positions, V classes, d bits, Q codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ernie5.model.heads import Heads
from ernie5.model.text_head import EXCLUDED


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 takes the likeliest class."""

    temperature: float = 0.7
    guidance: float = 1.0

    def check(self) -> None:
        if self.temperature < 0 or self.guidance < 0:
            raise ValueError(f"temperature = {self.temperature} and guidance = {self.guidance} must be >= 0; 1 means unchanged")

    def guided(self, logits: Tensor) -> Tensor:
        """`2n ...` -> `n ...` with guidance, unchanged without."""
        if self.guidance == 1.0:
            return logits
        with_text, without = logits.chunk(2)
        return without + self.guidance * (with_text - without)

    def both(self, choice: Tensor) -> Tensor:
        """Hand a choice `n ...` back to all rows."""
        return choice if self.guidance == 1.0 else torch.cat([choice, choice])

    def classes(self, logits: Tensor, random: torch.Generator) -> Tensor:
        """logits `m V` (`2m V` with guidance) -> one class for each row, equal in both halves."""
        logits = self.guided(logits.float())
        if self.temperature == 0:
            return self.both(logits.argmax(dim=-1))
        return self.both(torch.multinomial((logits / self.temperature).softmax(dim=-1), 1, generator=random).squeeze(-1))

    def bits(self, logits: Tensor, random: torch.Generator) -> Tensor:
        """logits `m N d` -> bits `m N d` float 0 / 1."""
        logits = self.guided(logits.float())
        if self.temperature == 0:
            return self.both((logits > 0).float())
        return self.both(torch.bernoulli((logits / self.temperature).sigmoid(), generator=random))


@dataclass
class ChooseCodes:
    """Fills the unknown (-1) codes of `targets: m Q` level by level; the finished frames are left in `targets`.

    The end of a sound is decided by the semantic level; the other levels then follow it, and cannot end a sound on their own.
    """

    heads: Heads
    targets: Tensor
    sampling: Sampling
    random: torch.Generator
    ended: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.targets = self.targets.clone()
        self.ended = torch.zeros(len(self.targets), dtype=torch.bool, device=self.targets.device)

    def __call__(self, level: int, hidden: Tensor) -> Tensor:
        known = self.targets[:, level]
        open_ = known < 0
        if bool(open_.any()):
            logits = self.heads.audio_logits(level, hidden[open_])
            end = logits.shape[-1] - 1
            if level > 0:
                logits = logits.index_fill(-1, torch.tensor([end], device=logits.device), EXCLUDED)
            chosen = self.sampling.classes(logits, self.random)
            if level > 0:
                chosen = torch.where(self.ended[open_], end, chosen)
            self.ended[open_] = chosen == end
            self.targets[open_, level] = chosen
        return self.targets[:, level]
