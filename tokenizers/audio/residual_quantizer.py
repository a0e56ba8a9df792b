"""Residual vector quantization: level 1 names the nearest vector of its codebook, every further level what is left.

    r_1 = latent     code_q = argmin_k |r_q - e_q[k]|     r_{q+1} = r_q - e_q[code_q]     value = sum_q e_q[code_q]
Codebooks are no parameters: each vector follows the mean of the residuals that chose it (exponential moving average). They start as
k-means of real latents, and a vector that is hardly ever chosen restarts at a residual that was badly matched. Distances are taken in
float64, so that a code does not depend on the shape of the batch around it.
Report: §2.3.1 (RVQ, 12.5 Hz). Ours: moving averages, restarts (decision 14).
Letters: n sounds, f codec frames, d latent width, Q levels, K codebook size, N latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

KMEANS_ROUNDS = 6
DEAD_SHARE, RESTART_SHARE = 0.06, 0.3  # of the mean count per code: below the first a code restarts, with the second as its count


@dataclass(frozen=True)
class Quantized:
    """Latents as codes, and back."""

    codes: Tensor   # n f Q   int64
    values: Tensor  # n f d   sum over the levels
    first: Tensor   # n f d   level 1 alone


class ResidualQuantizer(nn.Module):
    """Q codebooks of K vectors of width d. Nothing random happens outside `initialize` and `learn`."""

    codebooks: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int, decay: float = 0.97, dead_share: float = DEAD_SHARE) -> None:
        super().__init__()
        self.decay, self.dead_share = decay, dead_share
        self.register_buffer("codebooks", torch.zeros(num_codebooks, codebook_size, dim))              # Q K d
        self.register_buffer("counts", torch.ones(num_codebooks, codebook_size), persistent=False)     # Q K   averages, for training only
        self.register_buffer("sums", torch.zeros(num_codebooks, codebook_size, dim), persistent=False)  # Q K d

    def learned(self) -> dict[str, Tensor]:
        """All that `learn` moves, by name: the codebooks, and the averages that no trained codec needs."""
        return {"codebooks": self.codebooks, "codebook_counts": self.counts, "codebook_sums": self.sums}

    @torch.no_grad()
    def forward(self, latents: Tensor) -> Quantized:
        """float `n f d` -> codes and values, without gradient."""
        residual, codes, values = latents, [], []
        for codebook in self.codebooks:
            codes.append(nearest(residual, codebook))
            values.append(F.embedding(codes[-1], codebook))
            residual = residual - values[-1]
        return Quantized(torch.stack(codes, -1), torch.stack(values).sum(0), values[0])

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """int64 `n f q`, of the first q <= Q levels -> values float `n f d`."""
        return torch.stack([F.embedding(c, e) for c, e in zip(codes.unbind(-1), self.codebooks[:codes.shape[-1]], strict=True)]).sum(0)

    @torch.no_grad()
    def decode_first(self, codes: Tensor, levels: Tensor) -> Tensor:
        """int64 `n f Q`, and how many levels count for each item, int64 `n` -> values float `n f d`."""
        values = torch.stack([F.embedding(c, e) for c, e in zip(codes.unbind(-1), self.codebooks, strict=True)])   # Q n f d
        counts = torch.arange(len(values), device=levels.device)[:, None] < levels
        return (values * counts[:, :, None, None]).sum(0)

    @torch.no_grad()
    def initialize(self, latents: Tensor, random: np.random.Generator) -> None:
        """Start every level as k-means of what the levels before left over of `latents`, float `N d`."""
        residual = latents
        for q, codebook in enumerate(self.codebooks):
            codebook.copy_(kmeans(residual, len(codebook), random))
            codes = nearest(residual, codebook)
            self.counts[q] = codes.bincount(minlength=len(codebook)) / len(latents)
            self.sums[q] = codebook * self.counts[q].unsqueeze(1)
            residual = residual - codebook[codes]

    @torch.no_grad()
    def learn(self, latents: Tensor, codes: Tensor, random: np.random.Generator) -> int:
        """One step of the moving averages on latents float `N d` and their codes `N Q`; the number of codes that restarted."""
        residual, num_restarts = latents, 0
        num_latents, size = len(latents), self.codebooks.shape[1]
        for q, (codebook, chosen) in enumerate(zip(self.codebooks, codes.unbind(-1), strict=True)):
            left = residual - codebook[chosen]
            share = chosen.bincount(minlength=size) / num_latents
            total = torch.zeros_like(codebook).index_add_(0, chosen, residual) / num_latents
            self.counts[q].lerp_(share.to(codebook.dtype), 1 - self.decay)
            self.sums[q].lerp_(total, 1 - self.decay)
            codebook.copy_(self.sums[q] / self.counts[q].unsqueeze(1).clamp_min(1e-12))
            dead = (self.counts[q] < self.dead_share / size).nonzero()[:, 0]   # also those never chosen so far
            num_restarts += len(dead)
            if len(dead):
                fresh = residual[_draw(left.square().sum(1), len(dead), random)]
                codebook[dead], self.counts[q, dead], self.sums[q, dead] = fresh, RESTART_SHARE / size, fresh * (RESTART_SHARE / size)
            residual = left
        return num_restarts


def nearest(latents: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest of the vectors `K d` to each of `... d`; the lowest index among equals."""
    codebook = codebook.double()
    return (codebook.square().sum(1) - 2 * latents.double() @ codebook.mT).argmin(-1)


def kmeans(latents: Tensor, size: int, random: np.random.Generator) -> Tensor:
    """`size` centres `K d` of latents `N d`: started far apart (k-means++), then `KMEANS_ROUNDS` rounds; unused centres stay."""
    centres = latents[_draw(torch.ones(len(latents)), 1, random)]
    distance = (latents - centres).square().sum(1)
    for _ in range(size - 1):
        centre = latents[_draw(distance, 1, random)]
        centres = torch.cat([centres, centre])
        distance = torch.minimum(distance, (latents - centre).square().sum(1))
    for _ in range(KMEANS_ROUNDS):
        codes = nearest(latents, centres)
        counts = codes.bincount(minlength=size).unsqueeze(1)
        total = torch.zeros_like(centres).index_add_(0, codes, latents)
        centres = torch.where(counts > 0, total / counts.clamp_min(1), centres)
    return centres


def _draw(weights: Tensor, count: int, random: np.random.Generator) -> Tensor:
    """`count` indices with probabilities in proportion to `weights`, uniform where all are zero."""
    cumulative = weights.double().clamp_min(0).cumsum(0).cpu()
    if cumulative[-1] <= 0:
        return torch.from_numpy(random.integers(0, len(weights), count)).to(weights.device)
    drawn = torch.searchsorted(cumulative, torch.from_numpy(random.random(count)) * cumulative[-1], right=True)
    return drawn.clamp_max(len(weights) - 1).to(weights.device)
