"""Ranks whose rows lack modalities, or read different numbers of media: nobody hangs, and gradients are exact."""

from __future__ import annotations

import torch
from parity import make_engine
from tiny_world import batch

from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.shards import Shard
from ernie5.train.training import Objective

GAPS = {  # rows of data rank 0 and of data rank 1
    "only one reads": ([["image_to_text", "video_to_text"], ["mixed"]], [["text", "text"], ["text"]]),
    "sound here, pictures there": (
        [["text_to_audio", "audio_to_text"], ["text_to_audio"]], [["image_to_text", "text_to_video"], ["video_to_text"]]),
}


def two_steps(world, plan: dict, gap: str) -> tuple[torch.Tensor, tuple[Shard, ...]]:
    """Losses of two steps on these rows, and what this rank holds afterwards; one process takes all rows."""
    engine = make_engine(world, plan, elastic=False)
    packed = [[batch([row], length=256, seed=i) for i, row in enumerate(rows)] for rows in GAPS[gap]]
    counts = sum((TargetCounts.of(p) for rows in packed for p in rows), start=TargetCounts(0.0, 0.0, 0.0, 0.0))
    mine = packed[engine.data_rank] if engine.data_size == 2 else [p for rows in packed for p in rows]
    objective, losses = Objective(NextGroupLoss(), engine.model), []
    for _ in range(2):
        objective.begin(counts, Weights())
        losses.append(engine.forward_backward([MicroBatch(p) for p in mine], objective).clone())
        assert not engine.optimizer_step(1e-2).skipped
    return torch.stack(losses), tuple(Shard(s.name, s.shape, s.at, s.data.clone()) for s in engine.shards())
