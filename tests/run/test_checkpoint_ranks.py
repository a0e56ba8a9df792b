"""Several ranks save one checkpoint and read it under another split; if one fails, all do, and nothing is lost."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from rank_threads import boxes_of, shares, state_of, together

from ernie5.run.checkpoint import Checkpoint, CheckpointError, latest_checkpoint, list_steps, load_checkpoint, save_checkpoint
from ernie5.run.content import Piece
from ernie5.run.rank_parts import Patience, RankPart, put_part
from ernie5.run.save import no_hook
from ernie5.run.team import Team


def save(team: Team, folder: Path, step: int, *, attempt: str = "", wait_s: float = 30.0, pieces=None, hook=no_hook, **more) -> Path:
    pieces = shares(state_of(step), team.rank, team.size) if pieces is None else pieces
    return save_checkpoint(folder, step, pieces, {"step": step} if team.rank == 0 else {}, run_id="run", fingerprint="f",
                           team=team, attempt=attempt or f"{step}", patience=Patience(wait_s), file_bytes=400, hook=hook, **more)


def save_all(folder: Path, step: int, size: int, **more) -> list:
    return together(size, lambda team: save(team, folder, step, **more))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check_whole(found: Checkpoint | None, step: int) -> None:
    assert found is not None and found.step == step and found.state == {"step": step}
    expected = state_of(step)
    assert found.tensors.keys() == expected.keys() and found.shapes == {name: tuple(t.shape) for name, t in expected.items()}
    for name, tensor in expected.items():
        assert torch.equal(found.tensors[name], tensor) and found.tensors[name].dtype == tensor.dtype, name


@pytest.mark.parametrize("size", [2, 3, 5])
def test_what_many_save_one_can_load(tmp_path: Path, size: int) -> None:
    assert save_all(tmp_path, 1, size) == [tmp_path / "step-00000001"] * size
    check_whole(load_checkpoint(tmp_path / "step-00000001"), 1)
    files = [name for name in names(tmp_path / "step-00000001") if name.startswith("tensors")]
    assert {name[8:13] for name in files} == {f"{rank:05d}" for rank in range(size)} and len(files) > size
    assert names(tmp_path) == ["step-00000001"]


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 2), (4, 1), (5, 4)])
def test_reshard(tmp_path: Path, before: int, after: int) -> None:
    save_all(tmp_path, 7, before)

    def read(team: Team) -> list[Piece]:
        found = latest_checkpoint(tmp_path, team)
        assert found is not None and found.state == {"step": 7}
        return [Piece(name, found.shapes[name], at, found.read(name, at, box))
                for name in state_of(7) for at, box in boxes_of(name, found.shapes[name], team.rank, team.size)]

    for rank, pieces in enumerate(together(after, read)):
        expected = shares(state_of(7), rank, after)
        assert [(p.name, p.at) for p in pieces] == [(p.name, p.at) for p in expected]
        for piece, wanted in zip(pieces, expected, strict=True):
            assert torch.equal(piece.data, wanted.data) and piece.data.is_contiguous(), piece.name


def test_a_reader_gives_any_box_and_refuses_others(tmp_path: Path) -> None:
    save_all(tmp_path, 2, 3)
    found, up = load_checkpoint(tmp_path / "step-00000002"), state_of(2)["model.experts.up"]
    assert torch.equal(found.read("model.experts.up", (1, 1, 2), (4, 3, 2)), up[1:5, 1:4, 2:4])
    assert found.read("model.experts.up", (1, 1, 2), (0, 3, 2)).shape == (0, 3, 2)
    for at, shape in (((0, 0, 0), (7, 4, 5)), ((-1, 0, 0), (1, 1, 1)), ((0, 0, 5), (1, 1, 1))):
        with pytest.raises(ValueError, match="there is no box at"):
            found.read("model.experts.up", at, shape)
    with pytest.raises(KeyError):
        found.read("model.unknown")


def test_a_reader_opens_only_the_files_that_it_needs(tmp_path: Path) -> None:
    save_all(tmp_path, 2, 4)

    def opened(team: Team) -> tuple[set[str], set[str]]:
        found = load_checkpoint(tmp_path / "step-00000002", team)
        verified = set(found.reader._open)
        found.read("model.experts.up", (0, 0, 0), (1, 4, 5))
        return verified, set(found.reader._open) - verified

    answers = together(4, opened)
    tensors = {name for name in names(tmp_path / "step-00000002") if name.startswith("tensors")}
    assert set.union(*(verified for verified, _ in answers)) == tensors  # together they have looked at all,
    assert sum(len(verified) for verified, _ in answers) == len(tensors)  # each at its own,
    assert all(len(more) <= 1 for _, more in answers)  # and afterwards nobody opened more than it reads


def test_the_same_step_again_and_old_ones_go(tmp_path: Path) -> None:
    for attempt, step in enumerate((1, 2, 2, 3)):
        assert save_all(tmp_path, step, 2, attempt=f"a{attempt}", keep_last=2) == [tmp_path / f"step-{step:08d}"] * 2
    assert names(tmp_path) == ["step-00000002", "step-00000003"]
    check_whole(latest_checkpoint(tmp_path), 3)


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize("kind", ["nan", "full disk", "full for good"])
def test_if_one_rank_fails_all_do_and_older_checkpoints_stay(tmp_path: Path, bad: int, kind: str, monkeypatch) -> None:
    save_all(tmp_path, 1, 3)

    def one(team: Team) -> Path:
        pieces = shares(state_of(2), team.rank, team.size)
        if team.rank == bad and kind == "nan":
            pieces[0].data[...] = float("nan")

        def hook(site: str) -> None:
            if team.rank == bad and kind != "nan" and site.startswith("sync:tensors"):
                raise OSError(errno.ENOSPC, "No space left on device")

        return save(team, tmp_path, 2, pieces=pieces, hook=hook, wait_s=1 if kind == "full for good" else 30)

    if kind == "full for good":  # not even the small file of this rank can be written

        def nothing_fits(staging: Path, rank: int, part: RankPart) -> None:
            if rank == bad:
                raise OSError(errno.ENOSPC, "No space left on device")
            put_part(staging, rank, part)

        monkeypatch.setattr("ernie5.run.save.put_part", nothing_fits)
    failures = together(3, one)
    monkeypatch.undo()
    assert all(isinstance(failure, CheckpointError) and "step 2 could not be saved" in str(failure) for failure in failures), failures
    if kind != "full for good":
        assert f"rank {bad}: " in str(failures[0])
        assert ("holds inf or nan" if kind == "nan" else "No space left on device") in str(failures[0])
    assert names(tmp_path) == ["step-00000001"]
    check_whole(latest_checkpoint(tmp_path), 1)
    assert save_all(tmp_path, 2, 3, attempt="again") == [tmp_path / "step-00000002"] * 3
    check_whole(latest_checkpoint(tmp_path), 2)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_is_never_heard_of_ends_the_save(tmp_path: Path, lost: int) -> None:
    save_all(tmp_path, 1, 3)

    def one(team: Team) -> Path | None:
        return None if team.rank == lost else save(team, tmp_path, 2, wait_s=0.5)

    answers = together(3, one)
    assert answers.pop(lost) is None
    assert all(isinstance(answer, CheckpointError) for answer in answers)
    assert f"nothing was heard of rank {lost} in 0.5 s" in str(answers[0]) and "older checkpoints are untouched" in str(answers[0])
    check_whole(latest_checkpoint(tmp_path), 1)
    save_all(tmp_path, 3, 3)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]  # what was left is swept up


def test_nobody_waits_once_told_to_stop(tmp_path: Path) -> None:
    stop, failure = Event(), []

    def rank_0() -> None:
        try:
            save_checkpoint(tmp_path, 1, {"w": torch.ones(2)}, {}, run_id="run", fingerprint="f", team=Team(0, 2), attempt="a",
                            patience=Patience(600, stop))
        except CheckpointError as error:
            failure.append(str(error))

    thread = Thread(target=rank_0)
    thread.start()
    stop.set()
    thread.join(30)
    assert not thread.is_alive() and "nobody waits for rank 1 any more" in failure[0] and names(tmp_path) == []


@pytest.mark.parametrize(("edit", "says"), [
    (lambda pieces, rank: pieces[1:] if rank else pieces, "its parts hold"),
    (lambda pieces, rank: [*pieces, *shares(state_of(2), 1 - rank, 2)], "elements"),
    (lambda pieces, rank: [Piece(p.name, (*p.shape[:-1], p.shape[-1] + rank) if p.shape else (), p.at, p.data) for p in pieces],
     "to one process and"),
    (lambda pieces, rank: [Piece(p.name, p.shape, p.at, p.data.double() if rank else p.data) for p in pieces], "to one process and"),
], ids=["a part is missing", "all parts twice", "another shape", "another type"])
def test_parts_that_do_not_fit_are_not_saved(tmp_path: Path, edit, says: str) -> None:
    failures = together(2, lambda team: save(team, tmp_path, 2, pieces=edit(shares(state_of(2), team.rank, 2), team.rank)))
    assert all(isinstance(failure, CheckpointError) for failure in failures) and says in str(failures[0])
    assert names(tmp_path) == []


def test_stale_leftovers_of_dead_ranks_do_no_harm(tmp_path: Path) -> None:
    stale = tmp_path / ".tmp-step-00000001-old"
    stale.mkdir(parents=True)
    (stale / "part-00001.json").write_text('{"error": "", "files": {}, "tensors": {}}')
    (stale / "tensors-00001-00000.safetensors").write_bytes(b"half")
    save_all(tmp_path, 1, 2, attempt="new")
    assert names(tmp_path) == ["step-00000001"]
    check_whole(latest_checkpoint(tmp_path), 1)
    with pytest.raises(CheckpointError, match="need a common name"):
        save_checkpoint(tmp_path, 1, {}, {}, run_id="run", fingerprint="f", team=Team(0, 2))


def test_damage_that_one_rank_sees_sends_all_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_all(tmp_path, 1, 3)
    save_all(tmp_path, 2, 3)
    path = tmp_path / "step-00000002" / "tensors-00001-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    caplog.set_level(logging.WARNING)
    for found in together(3, lambda team: latest_checkpoint(tmp_path, team)):
        check_whole(found, 1)
    assert f"{path} was changed" in caplog.text and "another process found it damaged" in caplog.text
    for name in ("step-00000001", "step-00000002"):
        (tmp_path / name / "state.json").write_text("{}")
    failures = together(3, lambda team: latest_checkpoint(tmp_path, team))
    assert all("none of the 2 checkpoint(s)" in str(failure) for failure in failures)
    assert together(2, lambda team: latest_checkpoint(tmp_path / "nowhere", team)) == [None, None]
    assert list_steps(tmp_path) == [1, 2]


def test_the_manifest_says_where_parts_lie(tmp_path: Path) -> None:
    save_all(tmp_path, 1, 2)
    body = json.loads((tmp_path / "step-00000001" / "manifest.json").read_text())
    parts = body["tensors"]["model.query"]["parts"]
    assert [(part["at"], part["shape"]) for part in parts] == [([0, 0], [6, 8]), ([6, 0], [6, 8])]
    assert {part["file"][:14] for part in parts} == {"tensors-00000-", "tensors-00001-"}
    assert len(body["tensors"]["model.out"]["parts"]) == 4 and body["version"] == 2
