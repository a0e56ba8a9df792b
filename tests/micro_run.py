"""The smallest run that has everything: a demo world of a few samples, tokenizers of a few steps, four layers of four experts.

`MICRO` is its recipe; one thread, so that it gives the same bits in any process. `run_micro` trains in this process and says what came
of it; `same_run` holds two runs equal bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch

from ernie5.config import load_config
from ernie5.data_pipelines.loader import Loader
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import Checkpoint, latest_checkpoint, list_steps

MICRO = {
    "run": {"name": "micro"},
    "data": {"demo": {"num_images": 24, "num_clips": 24, "num_sounds": 24, "num_texts": 24, "num_documents": 12, "num_heldout": 6}},
    "tokenizers": {
        "text": {"vocab_size": 300},
        "vision": {"channels": [8, 8, 16], "blocks": [0, 0, 0], "bits": 8, "image_steps": 2, "image_batch": 4, "video_steps": 2,
                   "video_images": 2, "video_clips": 2},
        "audio": {"codec": {"codebook_size": 16, "dim": 16, "frame_dim": 32, "num_blocks": 0, "latent_dim": 8, "phase_iterations": 1},
                  "training": {"num_steps": 3, "batch_size": 4, "kmeans_latents": 52}},
        "side_by_side": False,
    },
    "understanding": {"dim": 16, "num_heads": 2, "num_layers": 1},
    "model": {"dim": 32, "num_layers": 4, "num_heads": 2, "num_kv_heads": 1, "num_experts": 4, "top_k": 2, "expert_dim": 16,
              "rope_base": 100},
    "train": {"steps": 6, "rows": 2, "length": 192, "checkpoint_every": 2, "keep_last": 9, "schedule": {"warmup_steps": 2},
              "balance_speed": 0.01, "threads": 1},
    "evaluate": {"num_samples": 3, "num_clips": 2, "at_end": False},
}


@dataclass(frozen=True)
class MicroRun:
    """A run folder, the exit code of its last process and the sample ids of every step that this process took (by step)."""

    folder: Path
    code: int | None
    sample_ids: dict[int, tuple[str, ...]]

    @property
    def metrics(self) -> list[dict]:
        """metrics.jsonl without what time measures."""
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "tokens_per_s"} for line in lines]

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints."""
        return list_steps(self.folder / "checkpoints")

    @property
    def saved(self) -> Checkpoint:
        """The last checkpoint."""
        saved = latest_checkpoint(self.folder / "checkpoints")
        assert saved is not None
        return saved


def micro_recipe(folder: Path, tokenizers: Path | None, *overrides: str) -> Recipe:
    """MICRO in `folder`, with the tokenizers and demo shards of another run."""
    places = [f"run.dir={folder}", *([f"run.tokenizers={tokenizers}"] if tokenizers else [])]
    return load_config(Recipe, MICRO, [*places, *overrides])


def run_micro(recipe: Recipe, run=None) -> MicroRun:
    """Train it (or call `run` instead) without the report; exceptions of the run come through."""
    from ernie5.train.job import run_job

    seen: dict[int, tuple[str, ...]] = {}
    original = Loader.next

    def recording(self, *args, **kwargs):
        batch = original(self, *args, **kwargs)
        seen[len(seen)] = batch.sample_ids
        return batch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        with mock.patch.object(Loader, "next", recording), mock.patch("ernie5.report.report.write_report"):
            code = run_job(recipe) if run is None else run()
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
    folder = Path(recipe.run.folder)
    last = list_steps(folder / "checkpoints")[-1]
    return MicroRun(folder, code, {last - len(seen) + 1 + i: ids for i, ids in seen.items()})


class Died(BaseException):
    """What stands for a power cut: no code of the run may catch it."""


def dies_in_step(step: int):
    """Inside this block a run dies in the middle of a step."""
    from ernie5.train import loop

    original = loop.train_step

    def dying(run, config, world):
        metrics = original(run, config, world)
        if run.step == step:
            raise Died
        return metrics

    return mock.patch.object(loop, "train_step", dying)


def train_until_death(recipe: Recipe, step: int) -> None:
    """Train, and die in this step."""
    with dies_in_step(step), pytest.raises(Died):
        run_micro(recipe)


def same_run(one: MicroRun, other: MicroRun) -> None:
    """Weights, moments, biases, router load, data position, losses and sample ids are equal, bit for bit."""
    assert one.metrics == other.metrics
    a, b = one.saved, other.saved
    assert a.step == b.step and a.state["training"] == b.state["training"]
    assert a.tensors.keys() == b.tensors.keys()
    different = [name for name, tensor in a.tensors.items() if not torch.equal(tensor, b.tensors[name])]
    assert not different
    both = one.sample_ids.keys() & other.sample_ids.keys()
    assert both and all(one.sample_ids[step] == other.sample_ids[step] for step in both)
