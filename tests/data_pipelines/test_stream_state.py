"""Where the stream stands: a few numbers that hold for any number of ranks, workers and batches ahead, and bring it back at once."""

import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from ernie5.data_pipelines import epoch_order
from ernie5.data_pipelines.epoch_order import place_of
from ernie5.data_pipelines.loader import BatchShape, EndOfData, LoaderState
from ernie5.sequence import Modality, Role, Segment
from ernie5.train.steps import StageConfig, TrainConfig, shape_of_step

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "benchmarks"))
from data_kills import SIZES, compare, make_loader, read  # noqa: E402

SHAPE = BatchShape(4, 160, 4)
NAMES = "drawn per_source waiting owed per_direction layout version".split()


def ids(loader, steps: int, shape: BatchShape = SHAPE, ahead: bool = False) -> list[tuple[str, ...]]:
    found = [loader.next(shape, shape if ahead else None).sample_ids for _ in range(steps)]
    loader.close()
    return found


@pytest.mark.parametrize("window", [0, 25])
def test_ranks_workers_prefetch_and_accumulation_change_nothing(window) -> None:
    expected = ids(make_loader(window=window), 8)
    for world_size, workers in ((1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 3), (4, 0), (4, 2)):
        for micro_rows, ahead in ((1, True), (4 // world_size, False)) if window == 0 else ((1, True),):
            loader = make_loader(world_size - 1, world_size, workers, window)
            assert ids(loader, 8, SHAPE._replace(micro_rows=micro_rows), ahead) == expected


def test_ranks_hold_the_rows_of_one(window: int = 25) -> None:
    alone = make_loader(window=window).next(SHAPE).micro_batches[0]
    parts = [make_loader(rank, 4, window=window).next(SHAPE._replace(micro_rows=1)).micro_batches[0] for rank in range(4)]
    assert torch.equal(alone.sample, torch.cat([p.sample for p in parts])) and torch.equal(alone.text, torch.cat([p.text for p in parts]))
    assert alone.sample_ids == tuple(row for p in parts for row in p.sample_ids)


@pytest.mark.parametrize(("world_size", "slots", "micro_rows"), [(1, 1, 3), (2, 1, 3), (1, 2, 3), (2, 2, 3), (2, 1, 9), (4, 2, 1)])
def test_rows_that_micro_batches_do_not_divide_are_trained_once(world_size, slots, micro_rows) -> None:
    shape = BatchShape(8, 160, micro_rows, slots=slots)
    alone = make_loader().next(BatchShape(8, 160, 8)).micro_batches[0].sample_ids
    found = []
    for rank in range(world_size):
        batch = make_loader(rank, world_size).next(shape)
        found += [row for part in batch.micro_batches for row in part.sample_ids]
        assert all(len(part.sample_ids) <= micro_rows for part in batch.micro_batches)
    assert sorted(found) == sorted(alone)


def test_rows_that_do_not_divide_among_ranks_and_slots_are_refused() -> None:
    for world_size, slots in ((3, 1), (2, 4), (8, 1)):
        loader = make_loader(0, world_size)
        said = rf"4 rows .* {world_size} process\(es\) times {slots} slot\(s\).* use {world_size * slots} rows"
        with pytest.raises(ValueError, match=said):
            loader.next(SHAPE._replace(slots=slots))


def test_a_million_samples_later_the_first_batch_comes_within_a_second() -> None:
    loader = make_loader(sizes={"books": 3 * 10**6, "web": 10**9, "code": 2 * 10**6})
    epoch_order._table.cache_clear()  # a process that has just begun
    per_source = {"books": 600_000, "web": 300_000, "code": 100_000}
    started = time.process_time()
    loader.restore(LoaderState.from_json({"version": 2, "drawn": 10**6, "per_source": per_source, "waiting": [[999_999, "web", 7, None]]}))
    batch = loader.next(SHAPE)
    assert time.process_time() - started < 1.0
    assert "web/shard/7" in batch.sample_ids and batch.state.drawn > 10**6


def test_a_state_is_small_and_holds_draws_only() -> None:
    for window, bound in ((0, 40), (60, 60)):
        loader = make_loader(window=window)
        for _ in range(30):
            state = loader.next(SHAPE).state.to_json()
            assert sorted(state) == sorted(NAMES) and len(state["waiting"]) <= bound
            assert all(len(item) == 4 and isinstance(item[1], str) for item in state["waiting"])
        assert LoaderState.from_json(state).to_json() == state


def test_a_state_of_version_1_goes_on_without_losing_or_repeating() -> None:
    book, page = place_of(1, "books", 0, SIZES["books"], 5), place_of(1, "web", 0, SIZES["web"], 2)
    old = {"drawn": 9, "per_source": {"books": 6, "web": 3}, "waiting": [[7, "books", book], [8, "web", page]]}
    loader = make_loader(epochs={"books": 1, "web": 1, "code": 1})
    loader.restore(LoaderState.from_json(old))
    found: Counter = Counter()
    with pytest.raises(EndOfData):
        while True:
            found.update(loader.next(SHAPE).sample_ids)
    assert set(found.values()) == {1} and {f"books/shard/{book}", f"web/shard/{page}"} <= found.keys()
    assert sum(name.startswith("books") for name in found) == SIZES["books"] - 6 + 1
    assert loader.state.per_source == SIZES


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 3, this code knows 2"):
        LoaderState.from_json({"version": 3, "drawn": 0, "per_source": {}, "waiting": []})


@pytest.mark.parametrize("window", [0, 25])
def test_two_epochs_deliver_every_good_sample_twice_and_end(window) -> None:
    loader = make_loader(1, 2, window=window, epochs=dict.fromkeys(SIZES, 2))
    found: Counter = Counter()
    with pytest.raises(EndOfData, match="books 800, web 180, code 62"):
        while True:
            batch = loader.next(SHAPE._replace(micro_rows=2), SHAPE._replace(micro_rows=2))
            found.update(batch.sample_ids)
            assert len(batch.micro_batches) == 1 and batch.micro_batches[0].sample.shape == (2, 160)
    with pytest.raises(EndOfData):
        loader.next(SHAPE)
    good = {f"{s}/shard/{i}" for s, size in SIZES.items() for i in range(size) if not (s == "web" and i % 17 == 3)}
    assert found == dict.fromkeys(good, 2)
    loader.close()


def test_in_a_later_epoch_a_rank_decodes_its_own_rows_only() -> None:
    sizes = {"books": 60}
    count: Counter = Counter()

    def counting(source, place):
        count[source] += 1
        return read(source, place)

    loader = make_loader(0, 4, sizes=sizes, weights={"books": 1.0}, read=counting, cache_gib=0.0)
    shape, whole = SHAPE._replace(micro_rows=1), make_loader(sizes=sizes, weights={"books": 1.0})
    while loader.state.drawn < 60:
        assert loader.next(shape).sample_ids == whole.next(SHAPE).sample_ids
    count.clear()
    used = 0
    for _ in range(10):
        batch = loader.next(shape)
        assert batch.sample_ids == whole.next(SHAPE).sample_ids
        used += len(batch.sample_ids)
    assert 0 < count["books"] < 0.4 * used


def test_weights_of_a_resumed_run_may_change_and_sources_may_join() -> None:
    first = make_loader(weights={"books": 2.0, "web": 1.0, "code": 0.0})
    seen: Counter = Counter(i for _ in range(5) for i in first.next(SHAPE).sample_ids)
    state = first.state.to_json()
    second = make_loader(sizes=SIZES | {"new": 50}, weights={"books": 1.0, "web": 0.0, "code": 1.0, "new": 1.0},
                         epochs=dict.fromkeys((*SIZES, "new"), 1))
    second.restore(LoaderState.from_json(state))
    with pytest.raises(EndOfData):
        while True:
            batch = second.next(SHAPE)
            seen.update(batch.sample_ids)
    waited = {tuple(item[1:3]) for item in state["waiting"]}
    assert set(seen.values()) == {1} and all(f"{s}/shard/{i}" in seen for s, i in waited)
    for name in ("books", "code", "new"):
        assert sum(i.startswith(name) for i in seen) == (SIZES | {"new": 50})[name]
    assert batch.state.per_source["web"] == state["per_source"]["web"]


def test_a_stage_changes_weights_and_temperature() -> None:
    config = TrainConfig(rows=4, length=160, stages=(StageConfig(11, temperature=1.0), StageConfig(21, weights={"code": 0.0})))
    loader, before = make_loader(weights={"books": 1.0, "web": 0.0, "code": 1.0}), {"books": 0, "code": 0}
    for first, books in ((1, 0.5), (11, SIZES["books"] / (SIZES["books"] + SIZES["code"])), (21, 1.0)):
        for step in range(first, first + 10):
            state = loader.next(shape_of_step(config, step, 1)).state
        new = {name: state.per_source[name] - before[name] for name in before}
        before = dict(state.per_source)
        total = sum(new.values())
        assert total > 60 and abs(new["books"] - books * total) <= 1


def test_counts_by_source_and_by_direction() -> None:
    loader = make_loader()
    batch = loader.next(SHAPE)
    assert {name: batch.drawn[name] for name in batch.state.per_source} == batch.state.per_source
    assert batch.drawn["text->text"] == len(batch.sample_ids) + len(batch.state.waiting)
    later = make_loader()
    later.restore(batch.state)
    assert later.next(SHAPE).drawn == loader.next(SHAPE).drawn


def test_directions_have_names() -> None:
    from ernie5.data_pipelines.directions import direction

    words, made, heard = Segment(Modality.TEXT, ""), Segment(Modality.IMAGE, ""), Segment(Modality.AUDIO, "", Role.UNDERSTAND)
    seen = Segment(Modality.IMAGE, "", Role.UNDERSTAND)
    cases = [([words], "text->text"), ([words, made], "text->image"), ([made], "nothing->image"), ([seen, words], "image->text"),
             ([words, heard, made], "text+audio->image"), ([words, seen, heard], "image+audio->text")]
    for segments, name in cases:
        assert direction(segments) == name


def test_ten_kills_at_random_moments(tmp_path) -> None:
    assert compare(tmp_path, kills=10, seed=7, window=30) > 5
