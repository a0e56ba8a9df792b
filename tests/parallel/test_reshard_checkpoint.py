"""A trained state saved in the parts of one plan and read in those of another: experts, columns, rows; weights and moments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from parity import ROWS, make_engine, run_steps
from tiny_world import batch, small_model

from ernie5.model.sharding import split_dim, split_of
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.parallel.shards import Shard, assemble
from ernie5.parallel.world import World
from ernie5.run.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint
from ernie5.run.team import Team

sys.path.insert(0, str(Path(__file__).parents[1] / "run"))
from rank_threads import together  # noqa: E402

ALONE = World(0, 1, torch.device("cpu"))


def cut(shard: Shard, rank: int, size: int) -> Shard | None:
    """What rank `rank` of `size` holds of a whole tensor, by the table of names; `size` may not divide it."""
    _, _, name = shard.name.partition("model.") if shard.name.startswith("model.") else shard.name.split(".", 2)
    dim = split_dim(split_of(name)) if shard.data.ndim else None
    if dim is None:
        return shard if rank == 0 else None
    first, last = (shard.shape[dim] * r // size for r in (rank, rank + 1))
    at = tuple(first if d == dim else 0 for d in range(len(shard.shape)))
    return Shard(shard.name, shard.shape, at, shard.data.narrow(dim, first, last - first))


def save_as(shards: list[Shard], folder: Path, size: int, step: int = 3) -> None:
    """Each of `size` ranks saves its cut."""
    def one(team: Team) -> Path:
        mine = [part for shard in shards if (part := cut(shard, team.rank, size)) is not None]
        return save_checkpoint(folder, step, mine, {}, run_id="r", fingerprint="f", team=team, attempt=f"{size}",
                               file_bytes=50_000)

    assert together(size, one) == [folder / f"step-{step:08d}"] * size


def read_as(found: Checkpoint, pattern: list[Shard], rank: int, size: int) -> list[Shard]:
    """What rank `rank` of `size` reads of a checkpoint: its cut of every tensor, and nothing else."""
    parts = (cut(shard, rank, size) for shard in pattern)
    return [Shard(p.name, p.shape, p.at, found.read(p.name, p.at, tuple(p.data.shape))) for p in parts if p is not None]


@pytest.fixture(scope="module")
def trained() -> list[Shard]:
    """Weights and moments after three steps of one process."""
    torch.manual_seed(0)
    engine = make_engine(ALONE, {}, False)
    run_steps(engine, range(3), False)
    return [Shard.whole(shard.name, shard.data.clone()) for shard in engine.shards()]


def loss_of(model: torch.nn.Module) -> torch.Tensor:
    packed = batch([ROWS[0]], length=256, seed=1)
    with torch.no_grad():
        return next_group_loss(model(packed), model.heads, packed, TargetCounts.of(packed), Weights()).total


def test_a_chain_of_plans_keeps_every_bit(trained, tmp_path) -> None:
    expected = {shard.name: shard.data for shard in trained}
    shards = trained
    for number, size in enumerate((2, 3, 1, 4)):
        save_as(shards, tmp_path, size, step=number)
        found = latest_checkpoint(tmp_path)
        assert found is not None and found.step == number and found.shapes.keys() == expected.keys()
        after = assemble(part for rank in range(5) for part in read_as(found, trained, rank, 5))
        assert after.keys() == expected.keys() and all(torch.equal(after[name], tensor) for name, tensor in expected.items())
        shards = [Shard.whole(name, tensor) for name, tensor in after.items()]


@pytest.mark.parametrize("size", [2, 3])
def test_an_engine_goes_on_from_the_parts_of_others(trained, tmp_path, size) -> None:
    save_as(trained, tmp_path, size)
    engine, reference = make_engine(ALONE, {}, False), make_engine(ALONE, {}, False)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    engine.load(found)
    save_as(trained, tmp_path / "one", 1)
    reference.load(latest_checkpoint(tmp_path / "one"))
    assert torch.equal(loss_of(engine.model), loss_of(reference.model))
    for one, other in zip(run_steps(engine, range(3, 5), False), run_steps(reference, range(3, 5), False), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


def test_no_expert_keeps_its_initial_values(trained, tmp_path) -> None:
    save_as(trained, tmp_path, 3)  # 4 experts on 3 ranks: 1, 1 and 2
    engine = make_engine(ALONE, {}, False)
    fresh = {name: tensor.clone() for name, tensor in engine.model.state_dict().items() if ".experts." in name}
    found = latest_checkpoint(tmp_path)
    assert found is not None and any(len(found.manifest.tensors[f"model.{name}"].parts) == 3 for name in fresh)
    engine.load(found)
    saved, loaded, compared = {shard.name: shard.data for shard in trained}, engine.model.state_dict(), 0
    for name, initial in fresh.items():
        for expert in range(len(initial)):
            compared += 1
            assert torch.equal(loaded[name][expert], saved[f"model.{name}"][expert]), (name, expert)
            assert not torch.equal(loaded[name][expert], initial[expert]), f"expert {expert} of {name} was not loaded"
            moment = engine.optimizer.state[dict(engine.model.named_parameters())[name]]["exp_avg"][expert]
            assert torch.equal(moment, saved[f"optimizer.exp_avg.{name}"][expert]) and moment.abs().sum() > 0
    assert compared >= 4 * 6


def test_weights_alone_go_into_a_plain_model(trained, tmp_path) -> None:
    save_as(trained, tmp_path, 2)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    engine = make_engine(ALONE, {}, False)
    model = small_model(engine.model.config, seed=5)
    model.load_state_dict({name.removeprefix("model."): found.read(name) for name in found.shapes if name.startswith("model.")})
    engine.load(found)
    assert torch.equal(loss_of(model), loss_of(engine.model))


def save_and_load(world: World, folder: str, damaged: str | None) -> tuple[str, list[float], float]:
    """A rank of a real job: it saves its cut of a state (or only verifies), then reads everything; what it got, and the sum before."""
    team, path = world.team(), Path(folder)
    shards = [Shard.whole(f"model.{name}", tensor) for name, tensor in small_model().state_dict().items()]
    if damaged is None:
        mine = [part for shard in shards if (part := cut(shard, world.rank, world.size)) is not None]
        save_checkpoint(path, 1, mine, {}, run_id="r", fingerprint="f", team=team, attempt="real")
    weights = torch.full((3,), 0.25)
    try:
        found = latest_checkpoint(path, team)
        assert found is not None
        weights.fill_(1.0)
        return "", [float(found.read(s.name).double().sum()) for s in shards], float(weights.sum())
    except ValueError as error:
        return str(error), [], float(weights.sum())


def test_real_ranks_agree(ranks, tmp_path) -> None:
    expected = [float(tensor.double().sum()) for tensor in small_model().state_dict().values()]
    for error, sums, _ in ranks.run(2, save_and_load, str(tmp_path), None):
        assert error == "" and sums == expected
    path = tmp_path / "step-00000001" / "tensors-00001-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 16
    path.write_bytes(data)
    answers = ranks.run(2, save_and_load, str(tmp_path), path.name)
    assert all("none of the 1 checkpoint(s)" in error and weights == 0.75 for error, _, weights in answers)
    assert any(path.name in error for error, _, _ in answers)
