"""Held-out loss per modality, beside the entropy of the codes' own marginals: what a model without context could reach.

    text: unigram entropy of the targets;   vision: entropy of every (scale, bit), weighed as in the loss;   audio: entropy per level

A loss below its marginal means that the model uses context. One pass, no flips, no dropped frames or prompts; roles by sample number.
Letters: m targets, V ids, d bits, Q codebooks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.generate.generator import Generator
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.objectives.next_scale import bit_losses
from ernie5.recipe import Recipe
from ernie5.run.folder import RunFolder
from ernie5.sequence import PackedSequence
from ernie5.train.packed_samples import batches_of
from ernie5.train.prepare import open_sources


def heldout_batches(recipe: Recipe, folder: RunFolder, generator: Generator, at_most: int) -> Iterator[PackedSequence]:
    """Up to `at_most` samples of every held-out source, packed."""
    corpus = open_sources(recipe, recipe.data.heldout, Quarantine(folder.logs / "quarantine.jsonl", recipe.data.tolerance))
    return batches_of(corpus, generator, at_most)


def heldout_loss(recipe: Recipe, folder: RunFolder, generator: Generator, at_most: int) -> dict[str, float]:
    """`text`, `vision`, `audio` (nats per token, bit, code), `marginal/…` beside each; for a series of bits `vision/bits 1-8` …"""
    return loss_on(generator.model, list(heldout_batches(recipe, folder, generator, at_most)), recipe.tokenizers.vision.bit_series)


@torch.no_grad()
def loss_on(model: UnifiedTransformer, batches: list[PackedSequence], series: Sequence[int] = ()) -> dict[str, float]:
    """The same for batches at hand, so that several models can be held against them. `series`: widths whose bits are told apart."""
    device = next(model.parameters()).device
    counts = sum((TargetCounts.of(b) for b in batches), start=TargetCounts(0.0, 0.0, 0.0, 0.0))
    summed, by_bit = torch.zeros(5, device=device), torch.zeros(batches[0].vision_target.shape[1] if batches else 0, device=device)
    for batch in batches:
        moved = batch.to(device)
        hidden = model(moved)
        summed += next_group_loss(hidden, model.heads, moved, counts, Weights()).detached()
        if series and hidden.vision is not None:
            by_bit += (moved.vision_weight @ bit_losses(model.heads.vision(hidden.vision), moved.vision_target)) / max(counts.vision, 1e-9)
    _, text, multi_token, vision, audio = summed.tolist()
    losses = {"text": text, "multi_token": multi_token, "vision": vision, "audio": audio}
    edges = [0, *(width for width in series if width <= len(by_bit))]
    losses |= {f"vision/bits {low + 1}-{high}": float(by_bit[low:high].mean()) for low, high in pairwise(edges)}
    return losses | {f"marginal/{name}": value for name, value in marginals(batches).items()}


def marginals(batches: list[PackedSequence]) -> dict[str, float]:
    """Entropies of the targets' own distributions, in nats, weighted like the loss."""
    text, weight = torch.cat([b.text_target for b in batches]), torch.cat([b.text_weight for b in batches])
    bits, scale = torch.cat([b.vision_target for b in batches]), torch.cat([b.vision_target_scale for b in batches])
    bit_weight, codes = torch.cat([b.vision_weight for b in batches]), torch.cat([b.audio_target for b in batches])
    by_scale = [(bit_weight[scale == s].sum(), _bit_entropy(bits[scale == s]).mean()) for s in scale.unique()]
    total = sum(w for w, _ in by_scale)
    return {
        "text": float(_entropy(torch.bincount(text, weights=weight.double()))) if len(text) else 0.0,
        "vision": float(sum(w * h for w, h in by_scale) / total) if by_scale else 0.0,
        "audio": float(torch.stack([_entropy(torch.bincount(level)) for level in codes.T]).mean()) if len(codes) else 0.0,
    }


def _entropy(counts: Tensor) -> Tensor:
    p = counts.double() / counts.sum()
    return -torch.xlogy(p, p).sum()


def _bit_entropy(bits: Tensor) -> Tensor:
    p = bits.double().mean(dim=0)  # d
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
