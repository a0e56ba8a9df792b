"""The training loop: next batch -> forward and backward -> optimizer step -> router balance -> log -> checkpoint and evaluation when due.

A step whose gradient is not finite moves nothing (all ranks agree, because they see the same reduced gradient) and is logged with its
samples; the data go on. When all sources have given their epochs, training ends as if complete. SIGTERM or SIGINT: the step is finished
and saved, the process leaves with exit code 75.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass

import torch

from ernie5.data_pipelines.mixture import EndOfData
from ernie5.model.elastic import touched
from ernie5.objectives.next_group import TargetCounts
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.world import World
from ernie5.run.progress import progress
from ernie5.run.signals import StopRequest
from ernie5.train.metrics import elastic_metrics, step_metrics
from ernie5.train.schedule import learning_rate
from ernie5.train.steps import TrainConfig, shape_of_step
from ernie5.train.submodels import draw
from ernie5.train.training import Training

log = logging.getLogger(__name__)
ROUTER_DECAY = 0.99
LOSS_NAMES = ("text", "vision", "audio")


@dataclass(frozen=True)
class Hooks:
    """What the loop calls at its seams; all of them run on every rank. `saving` is left when the last checkpoint is on disk."""

    log: Callable[[dict], None]
    checkpoint: Callable[[Training], None]
    evaluate: Callable[[Training], None]
    profile: Callable[[int], AbstractContextManager[None]]
    saving: AbstractContextManager[object]


def train(run: Training, config: TrainConfig, world: World, hooks: Hooks) -> bool:
    """Train up to `config.steps` or the end of the data; True when complete, False when stopped by a signal (saved)."""
    with StopRequest() as stop, hooks.saving, progress("training", total=config.steps) as bar:
        bar.advance(run.step)
        saved = 0
        while run.step < config.steps:
            started = time.perf_counter()
            run.step += 1
            try:
                with hooks.profile(run.step):
                    metrics = train_step(run, config, world)
            except EndOfData as end:
                run.step -= 1
                if run.step == 0:
                    raise ValueError(f"there is no sample to train on: {end}") from None
                log.warning("training ends after step %d of %d: %s", run.step, config.steps, end)
                if saved != run.step:
                    hooks.checkpoint(run)
                return True
            tokens_per_s = metrics.pop("step_tokens") / (time.perf_counter() - started)
            hooks.log({**metrics, "tokens_per_s": round(tokens_per_s, 1)})
            bar.advance(1, loss=f"{metrics['loss/total']:.3f}", tokens_per_s=f"{tokens_per_s:.0f}")
            stopping = agreed(stop.requested, run, world)
            if stopping or run.step == config.steps or run.step % config.checkpoint_every == 0:
                hooks.checkpoint(run)
                saved = run.step
            if stopping and run.step < config.steps:
                return False
            if config.evaluate_every and run.step % config.evaluate_every == 0 and run.step < config.steps:
                hooks.evaluate(run)
    return True


def train_step(run: Training, config: TrainConfig, world: World) -> dict:
    """One global step; the metrics of metrics.py and `step_tokens`."""
    slots, elastic = run.elastic.config.slots, run.elastic.config.on
    then = shape_of_step(config, run.step + 1, run.engine.data_size, slots) if config.prepares_ahead else None
    shape, bits = shape_of_step(config, run.step, run.engine.data_size, slots), config.bits_at(run.step - 1)
    batch = run.loader.next(shape, then)
    if bits is not None and shape.bits is not None and bits != shape.bits:
        run.modality_weights.more_bits(bits, shape.bits)
    drawn = draw(run.elastic, batch, run.seed, run.step, world.device)
    counts, tokens = global_counts(run, drawn.micro_batches, world)
    run.objective.begin(counts, run.modality_weights.weights())
    losses = run.engine.forward_backward(drawn.micro_batches, run.objective)
    lr = learning_rate(config.schedule, run.step, config.steps)
    result = run.engine.optimizer_step(lr, touched(drawn.submodels, run.model.config) if elastic else None)
    load, even = (run.engine.sum_over_world(of(run.model.config.num_moe_layers)) for of in (run.objective.load, run.objective.even))
    run.tokens += tokens
    metrics: dict = step_metrics(run.step, losses, result, lr, run.tokens, load.sum(dim=1))
    metrics |= elastic_metrics(drawn.submodels, run.model.config)
    metrics |= {f"data/{name}": count for name, count in batch.drawn.items()} | ({} if shape.bits is None else {"bits": shape.bits})
    if result.skipped:
        metrics["sample_ids"] = list(batch.sample_ids)
    else:
        run.balance.step(load.sum(dim=1) - even)
        run.router_load.mul_(ROUTER_DECAY).add_(load.cpu())
        run.modality_weights.update({name: metrics[f"loss/{name}"] for name in LOSS_NAMES if getattr(counts, name) > 0})
    return {**metrics, **run.health.observe(run.step, run.router_load), "step_tokens": tokens}


def global_counts(run: Training, micro_batches: list[MicroBatch], world: World) -> tuple[TargetCounts, int]:
    """Target counts and real tokens of the step, over all micro-batches and ranks."""
    local = [astuple(TargetCounts.of(m.packed)) for m in micro_batches]
    summed = run.engine.sum_over_data(torch.tensor(local, dtype=torch.float64, device=world.device).sum(dim=0))
    counts = TargetCounts(*summed.tolist())
    return counts, int(counts.tokens)


def agreed(requested: bool, run: Training, world: World) -> bool:
    """Whether any rank was asked to stop: all of them then stop after the same step."""
    if world.size == 1:
        return requested
    return bool(run.engine.sum_over_world(torch.tensor(float(requested), device=world.device)) > 0)
