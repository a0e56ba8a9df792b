"""A critic that learns to tell decoded media from real ones, and what the decoder learns from it.

    critic    hinge:  mean max(0, 1 - D(x)) + mean max(0, 1 + D(y))      LeCAM:  mean (D(x) - EMA D(y))^2 + mean (D(y) - EMA D(x))^2
    decoder   w_t * a * (-mean D(y)),    a = |grad of the reconstruction loss| / |grad of -mean D(y)|, both at the decoder's last weight
    w_t       0 until `start`, then rising linearly to `weight` over `ramp` steps; the critic begins to learn at `start` as well

Optional feature matching compares the critic's inner maps of x and y (mean absolute difference, each relative to that of x).
Report: §2.2.1 (adversarial loss). Hinge and adaptive weight: VQGAN (arXiv 2012.09841); LeCAM: arXiv 2104.03310. Ours: the ramp.
Letters: x real, y decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ernie5.tokenizers.optimizer_tensors import load_optimizer, optimizer_tensors

LECAM_DECAY = 0.99


@dataclass(frozen=True)
class AdversarialConfig:
    """`weight` 0: no critic. `start` and `ramp` are steps of the training."""

    weight: float = 0.0
    start: int = 0
    ramp: int = 1000
    lecam: float = 1e-3
    feature_matching: float = 0.0
    lr: float = 2e-4
    channels: int = 64     # of the critic's first layer

    def __post_init__(self) -> None:
        for name in ("weight", "start", "ramp", "lecam", "feature_matching"):
            if getattr(self, name) < 0:
                raise ValueError(f"adversarial.{name} = {getattr(self, name)} must not be negative; 0 turns it off")
        if self.lr <= 0 or self.channels < 1:
            raise ValueError(f"adversarial.lr = {self.lr} and adversarial.channels = {self.channels} must be above 0; use 2e-4 and 64")


@dataclass(frozen=True)
class Judged:
    """What a critic says of a batch: one or several maps of logits, and the maps inside it."""

    logits: list[Tensor]
    features: list[Tensor]

    @property
    def mean(self) -> Tensor:
        """The mean logit, every map with the same weight."""
        return torch.stack([part.mean() for part in self.logits]).mean()


class Adversary(nn.Module):
    """A critic (`media -> Judged`) with its optimizer and LeCAM's averages. Decoder and critic learn in turn, in one step each."""

    mean_real: Tensor     # EMA of D(x)
    mean_decoded: Tensor  # EMA of D(y)

    def __init__(self, critic: nn.Module, config: AdversarialConfig) -> None:
        super().__init__()
        self.critic, self.config = critic, config
        self.register_buffer("mean_real", torch.zeros(()))
        self.register_buffer("mean_decoded", torch.zeros(()))
        self.optimizer = torch.optim.AdamW(critic.parameters(), lr=config.lr, betas=(0.5, 0.9), weight_decay=0.0)

    def weight(self, step: int) -> float:
        """w_t"""
        config = self.config
        return 0.0 if step < config.start else config.weight * min(1.0, (step - config.start + 1) / max(1, config.ramp))

    def decoder_loss(self, real: Tensor, decoded: Tensor, reconstruction: Tensor, last: Tensor, step: int) -> Tensor:
        """What the decoder adds to its loss, a scalar. `last`: the decoder's last weight, on which both depend."""
        if not self.weight(step):
            return reconstruction.new_zeros(())
        self.critic.requires_grad_(False)  # the decoder learns here: gradients of the critic's weights would be made for nothing
        judged = self.critic(decoded)
        self.critic.requires_grad_(True)
        wanted = -judged.mean
        share = adaptive_weight(reconstruction, wanted, last)
        loss = self.weight(step) * share * wanted
        if self.config.feature_matching:
            with torch.no_grad():
                truth = self.critic(real).features
            loss = loss + self.weight(step) * self.config.feature_matching * feature_distance(truth, judged.features)
        return loss

    def learn(self, real: Tensor, decoded: Tensor, step: int) -> dict[str, float]:
        """One update of the critic; nothing before `start`, and nothing changes where its loss or gradient is not finite."""
        if step < self.config.start or not self.config.weight:
            return {}
        on_real, on_decoded = self.critic(real), self.critic(decoded.detach())
        loss = hinge(on_real.logits, on_decoded.logits)
        if self.config.lecam:
            loss = loss + self.config.lecam * ((on_real.mean - self.mean_decoded).square() + (on_decoded.mean - self.mean_real).square())
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.critic.parameters(), 1.0)
        if torch.isfinite(loss) and torch.isfinite(norm):
            self.optimizer.step()
            self.mean_real.lerp_(on_real.mean.detach(), 1 - LECAM_DECAY)
            self.mean_decoded.lerp_(on_decoded.mean.detach(), 1 - LECAM_DECAY)
        self.optimizer.zero_grad()
        return {name: float(x.detach()) for name, x in
                (("critic", loss), ("critic_real", on_real.mean), ("critic_decoded", on_decoded.mean))}

    def tensors(self) -> dict[str, Tensor]:
        """All that moves, by name."""
        return {**self.state_dict(), **optimizer_tensors(self.optimizer, "optimizer")}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """What `tensors` gave."""
        self.load_state_dict({name: tensors[name] for name in self.state_dict()})
        load_optimizer(self.optimizer, tensors, "optimizer")


def hinge(real: list[Tensor], decoded: list[Tensor]) -> Tensor:
    """The critic's loss over its maps of logits."""
    return torch.stack([F.relu(1 - x).mean() + F.relu(1 + y).mean() for x, y in zip(real, decoded, strict=True)]).mean()


def feature_distance(real: list[Tensor], decoded: list[Tensor]) -> Tensor:
    """Feature matching; gradient to the second alone."""
    parts = [(x.detach() - y).abs().mean() / x.detach().abs().mean().clamp_min(1e-6) for x, y in zip(real, decoded, strict=True)]
    return torch.stack(parts).mean()


def adaptive_weight(reconstruction: Tensor, wanted: Tensor, last: Tensor) -> Tensor:
    """How much of `wanted` moves the decoder's last weight as strongly as `reconstruction` does; at most 1e4, no gradient."""
    norms: Callable[[Tensor], Tensor] = lambda loss: torch.autograd.grad(loss, last, retain_graph=True)[0].norm()  # noqa: E731
    return (norms(reconstruction) / (norms(wanted) + 1e-4)).clamp(0, 1e4).detach()
