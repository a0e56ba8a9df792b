"""What each of two ranks does for test_two_ranks.py: `torchrun --nproc-per-node 2 two_ranks.py OUT RECIPE.yaml`.

First one step of the engine on batches made by hand, with its gradients; then a step that is not finite on rank 1 only; then whole jobs.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_world import SMALL, batch, small_model

from ernie5.model.elastic import FULL, SubModel, touched
from ernie5.model.router_balance import RouterBalance
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.parts import shards_of, whole_parts
from ernie5.parallel.torch_engine import TorchEngine
from ernie5.parallel.world import World
from ernie5.train.optimizer import OptimizerConfig, make_optimizer
from ernie5.train.training import Objective

# micro-batches of one row: what one process sees; two ranks take a half each
STEPS = {
    "all kinds on both": [["text_to_image", "audio_to_text"], ["mixed"]],
    "rank 1 reads and makes no media": [["mixed", "video_to_text"], ["text", "text"]],
    "rank 0 has sound, rank 1 pictures": [["text_to_audio", "audio_to_text"], ["image_to_text", "text_to_video"]],
    "accumulation": [["text_to_image"], ["text_to_audio", "text"], ["text"], ["video_to_text"]],
    "elastic": [["mixed"], ["text", "image_to_text"], ["video_to_text"], ["text_to_audio", "text_to_image"]],
}
MODEL = dataclasses.replace(SMALL, num_layers=5)
THREE = ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 2), (1, 2, 3), (0, 1, 3))
SLOTS = {"elastic": (SubModel((0, 2, 3, 4), THREE), SubModel((0, 2, 3, 4), THREE, 1))}  # two slots; layer 1 runs in none


def one_step(world: World, name: str) -> tuple[TorchEngine, dict[str, torch.Tensor]]:
    """Losses, gradients, balance counts and new weights of one step on this rank's rows."""
    rows, slots = STEPS[name], SLOTS.get(name, (FULL,))
    model = small_model(MODEL)
    engine = TorchEngine(model, partial(make_optimizer, config=OptimizerConfig()), world, elastic=name in SLOTS)
    packed = [batch([row], length=256, seed=seed) for seed, row in enumerate(rows)]
    counts = sum((TargetCounts.of(p) for p in packed), start=TargetCounts(0.0, 0.0, 0.0, 0.0))
    share = len(rows) // (len(slots) * world.size)
    starts = [(slot, (number * world.size + world.rank) * share) for number, slot in enumerate(slots)]
    mine = [MicroBatch(p, slot) for slot, at in starts for p in packed[at : at + share]]
    objective = Objective(NextGroupLoss(), model)
    objective.begin(counts, Weights())
    found = {"losses": engine.forward_backward(mine, objective)}
    found |= {f"gradient.{name}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    balance = RouterBalance(model, speed=0.01)
    load, even = (engine.sum_over_data(of(len(balance.biases))) for of in (objective.load, objective.even))
    balance.step(load.sum(dim=1) - even)
    assert not engine.optimizer_step(1e-3, touched(slots, MODEL) if name in SLOTS else None).skipped
    found |= {f"weight.{name}": p.detach().clone() for name, p in model.named_parameters()}
    return engine, found | {"load": load, "bias": torch.stack([*balance.biases.values()])}


def everything(engine: TorchEngine) -> dict[str, torch.Tensor]:
    """A copy of the weights and moments that this rank holds."""
    return {shard.name: shard.data.clone() for shard in shards_of(engine.model, engine.optimizer, whole_parts(engine.model, True))}


def not_finite(world: World, engine: TorchEngine) -> None:
    """Rank 1 computes a loss of NaN: no rank may move."""
    before = everything(engine)

    def loss(runner, micro_batch):
        hidden = runner(micro_batch.packed, micro_batch.submodel)
        packed = micro_batch.packed
        losses = NextGroupLoss()(hidden, engine.model.heads, packed, TargetCounts.of(packed), Weights())
        return replace(losses, total=losses.total * (torch.nan if world.rank == 1 else 1.0))

    engine.optimizer.zero_grad(set_to_none=True)
    engine.forward_backward([MicroBatch(batch([["mixed"]], length=256))], loss)
    assert engine.optimizer_step(1e-2).skipped
    after = everything(engine)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def main() -> int:
    from ernie5.cli.main import main as command_line
    from ernie5.train import job

    out, recipes = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    world = World.join("cpu")
    for number, name in enumerate(STEPS):
        engine, found = one_step(world, name)
        save_file(found, out / f"step-{number}-rank-{world.rank}.safetensors")
    not_finite(world, engine)

    trained = []
    original = job.train
    job.train = lambda run, *others: (trained.append(run), original(run, *others))[1]
    leave, World.leave = World.leave, lambda self: None  # one process group for both jobs
    code = max(command_line(["train", recipe]) for recipe in recipes)
    run, _ = trained
    bias = torch.stack([*run.balance.biases.values()])
    save_file({"bias": bias, "router_load": run.router_load}, out / f"run-rank-{world.rank}.safetensors")
    leave(world)
    return code


if __name__ == "__main__":
    sys.exit(main())
