"""Weights that bring the modalities' losses into one interval.

    w_m = clip( reference / EMA(L_m), 1/4, 4 ),   reference = mean of the EMAs;   no gradient;   EMAs of the steps before

Report: §3.2 ("posterior-based" weighting, no formula). Ours: decision 16. Equal weights are the module `EqualWeights`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Weights:
    """Factors of the four losses in the total, and of the routers' own loss where they have one."""

    text: float = 1.0
    multi_token: float = 0.3
    vision: float = 1.0
    audio: float = 1.0
    router: float = 0.01

    def total(self, losses: Mapping[str, float]) -> float:
        """The weighted sum of the four losses by name: how well a model predicts, without its routers' own loss."""
        return sum(getattr(self, name) * losses[name] for name in ("text", "multi_token", "vision", "audio"))


@dataclass
class EqualWeights:
    """The recipe's constant factors."""

    base: Weights

    def weights(self) -> Weights:
        return self.base

    def update(self, losses: dict[str, float]) -> None:
        """Nothing to learn."""

    def more_bits(self, before: int, now: int) -> None:
        """Nothing to expect."""

    def state(self) -> dict[str, float]:
        return {}

    def load(self, state: dict[str, float]) -> None:
        """Nothing to restore."""


@dataclass
class PosteriorWeights:
    """Rescaled by running means; a modality that was never seen keeps its base weight."""

    base: Weights
    decay: float = 0.99
    low: float = 0.25
    high: float = 4.0
    means: dict[str, float] = field(default_factory=dict)

    def weights(self) -> Weights:
        if not self.means:
            return self.base
        reference = sum(self.means.values()) / len(self.means)
        factor = {m: min(self.high, max(self.low, reference / max(mean, 1e-6))) for m, mean in self.means.items()}
        return Weights(
            text=self.base.text * factor.get("text", 1.0),
            multi_token=self.base.multi_token * factor.get("text", 1.0),
            vision=self.base.vision * factor.get("vision", 1.0),
            audio=self.base.audio * factor.get("audio", 1.0),
            router=self.base.router,
        )

    def update(self, losses: dict[str, float]) -> None:
        """`losses`: this step's global loss of each modality that had a target ("text", "vision", "audio")."""
        for modality, loss in losses.items():
            mean = self.means.get(modality, loss)
            self.means[modality] = self.decay * mean + (1 - self.decay) * loss

    def more_bits(self, before: int, now: int) -> None:
        """From this step on `now` bits of a vision token are on, `before` of them old ones. New ones begin at ln 2, so it is known what the
        loss will be; without this, vision would weigh too much until the mean has come after.
        """
        if "vision" in self.means:
            self.means["vision"] = (before * self.means["vision"] + (now - before) * math.log(2)) / now

    def state(self) -> dict[str, float]:
        return dict(self.means)

    def load(self, state: dict[str, float]) -> None:
        self.means = dict(state)
