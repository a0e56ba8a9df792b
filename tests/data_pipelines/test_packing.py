"""Rows packed by best fit over a window: full, even in cost, whole samples, nobody waits for ever; a resume in mid-window is exact."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ernie5.data_pipelines.cost import Cost
from ernie5.data_pipelines.loader import BatchShape, LoaderState
from ernie5.data_pipelines.pack_window import WindowPacker, even_order
from ernie5.data_pipelines.packing import Packer

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "benchmarks"))
from data_kills import make_loader  # noqa: E402
from packing import COST, imbalance, lengths, next_fit_batches, window_batches  # noqa: E402

SIZES = lengths(6000, 8192)
LONG = BatchShape(4, 160, 4)


def test_a_window_of_1000_fills_rows_of_8192_and_balances_ranks() -> None:
    batches = list(window_batches(SIZES, 32, 8192, 1000))
    full = [sum(map(sum, rows)) / (32 * 8192) for rows in batches]
    assert len(batches) >= 12 and np.mean(full) >= 0.998 and min(full) >= 0.994
    for ranks in (2, 4, 8):
        assert max(imbalance(rows, ranks) for rows in batches) <= 1.05
    assert np.mean([sum(map(sum, rows)) for rows in next_fit_batches(SIZES, 32, 8192)]) < 0.9 * 32 * 8192


@given(sizes=st.lists(st.integers(1, 60), max_size=80), rows=st.integers(1, 5), window=st.integers(1, 30))
def test_whole_samples_once_and_never_too_long_a_row(sizes, rows, window) -> None:
    numbers = iter(enumerate(sizes))
    waiting: list[int] = []
    placed: list[int] = []
    while True:
        old = iter(waiting)

        def more(old=old):
            number = next(old, None)
            number = next(numbers, (None,))[0] if number is None else number
            return None if number is None else (number, sizes[number])

        packer: WindowPacker[int] = WindowPacker(rows, 60, window, Cost(100.0))
        packer.fill(more)
        assert all(sum(sizes[n] for n in row) + room == 60 and room >= 0 for row, room in zip(packer.rows, packer.room, strict=True))
        waiting = [*packer.waiting, *old]
        assert waiting == sorted(waiting)
        placed += [n for row in packer.rows for n in row]
        if not any(packer.rows):
            break
    assert not waiting and sorted(placed) == list(range(len(sizes)))


def test_what_waits_longest_goes_first() -> None:
    born, waits, waiting, stream, now = {}, [], [], iter(enumerate(SIZES)), 0
    for now in range(12):
        old = iter(waiting)

        def more(old=old, now=now):
            number = next(old, None)
            if number is None:
                number = next(stream)[0]
                born[number] = now
            return number, SIZES[number]

        packer: WindowPacker[int] = WindowPacker(32, 8192, 500, COST)
        packer.fill(more)
        waiting = [*packer.waiting, *old]
        assert len(waiting) <= 500
        waits += [now - born[n] for row in packer.rows for n in row]
    assert 0 < max(waits) <= 4 and min(born[n] for n in waiting) >= now - 4


@given(costs=st.lists(st.floats(1, 2), min_size=1, max_size=40))
def test_an_even_order_is_an_order(costs) -> None:
    assert sorted(even_order(costs)) == list(range(len(costs)))


def test_an_even_order_balances_pairs_and_fours() -> None:
    costs = [float(c) for c in np.random.default_rng(0).uniform(1, 2, 32)]
    ordered = [costs[i] for i in even_order(costs)]
    for share, bound in ((2, 1.07), (4, 1.02), (8, 1.01), (16, 1.005)):
        sums = np.array(ordered).reshape(-1, share).sum(axis=1)
        assert sums.max() / sums.mean() < bound < np.array(costs).reshape(-1, share).sum(axis=1).max() / sums.mean()


def test_cost_is_positions_and_attention() -> None:
    cost = Cost.of_layer(dim=4, query_dim=4, key_dim=2, expert_dim=8, active_experts=2)
    assert cost.even_at == (4 * 12 + 3 * 4 * 16) / 4
    assert cost.of(60) == 2 * 60 and cost.of(30) + cost.of(30) < cost.of(60)
    with pytest.raises(ValueError, match="even_at = 0"):
        Cost(0.0)


def test_first_fit_is_what_it_was() -> None:
    packer: Packer[int] = Packer(2, 10, patience=3)
    packer.fill(enumerate([6, 6, 5, 4, 3, 1]))
    assert packer.rows == [[0, 3], [1, 4]] and packer.waiting == [2] and packer.full  # nowhere is a room of 4
    packer = Packer(2, 20, patience=2)
    packer.fill(enumerate([12, 12, 9, 8, 9, 9, 2]))
    assert packer.rows == [[0, 3], [1]] and packer.waiting == [2, 4, 5]


def test_a_resume_in_mid_window_is_exact_and_decodes_only_what_it_places() -> None:
    whole = make_loader(window=40)
    batches = [whole.next(LONG) for _ in range(6)]
    state = batches[1].state.to_json()
    assert 20 <= len(state["waiting"]) <= 40
    read: Counter = Counter()
    from data_kills import read as original

    def counting(source, place):
        read[source, place] += 1
        return original(source, place)

    again = make_loader(window=40, read=counting)
    again.restore(LoaderState.from_json(state))
    batch = again.next(LONG)
    assert batch.sample_ids == batches[2].sample_ids and batch.state == batches[2].state
    new = batch.state.drawn - state["drawn"]
    assert sum(read.values()) <= 2 * new + len(batch.sample_ids)  # measured, and made once more where the memory is small
    assert [again.next(LONG).sample_ids for _ in range(3)] == [b.sample_ids for b in batches[3:]]


def test_lengths_of_another_layout_are_measured_anew() -> None:
    first = make_loader(window=40)
    state = LoaderState.from_json(first.next(LONG).state.to_json())
    assert all(item.length for item in state.under("")) and all(item.length is None for item in state.under("other limits"))
    same, other = make_loader(window=40), make_loader(window=40, layout="other limits")
    same.restore(state)
    other.restore(state)
    assert same.next(LONG).sample_ids == other.next(LONG).sample_ids


def test_a_long_document_is_cut_and_says_so(caplog) -> None:
    for window in (0, 30):
        caplog.clear()
        loader = make_loader(window=window)
        batches = [loader.next(BatchShape(4, 60, 4)) for _ in range(8)]
        assert [r.message for r in caplog.records if "documents are cut at train.length = 60, at group borders" in r.message]
        assert len([r for r in caplog.records if "are cut" in r.message]) == 1
        assert sum(p.num_tokens for b in batches for p in b.micro_batches) > 0.8 * 8 * 4 * 60
