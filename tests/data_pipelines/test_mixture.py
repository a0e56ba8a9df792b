"""Which sample comes next: shares that are kept by construction, epochs that end, changes in mid-run that lose and repeat nothing."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ernie5.data_pipelines import epoch_order
from ernie5.data_pipelines.epoch_order import place_of
from ernie5.data_pipelines.mixture import Draw, EndOfData, Mixture


def drawn(mixture: Mixture, count: int) -> list[Draw]:
    return [mixture.draw() for _ in range(count)]


@given(weights=st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=12), seed=st.integers(0, 9), count=st.integers(1, 250))
def test_a_source_is_never_a_sample_ahead_of_its_share(weights, seed, count) -> None:
    names = [f"s{i}" for i in range(len(weights))]
    mixture = Mixture(dict.fromkeys(names, 10**6), dict(zip(names, weights, strict=True)), seed)
    given_so_far = Counter(d.source for d in drawn(mixture, count))
    for name, weight in zip(names, weights, strict=True):
        behind = count * weight / sum(weights) - given_so_far[name]
        assert -1 - 1e-6 < behind < len(names)
    assert sum(mixture.owed.values()) == 0


def test_shares_after_10000_samples_are_those_of_the_weights() -> None:
    weights = {"image": 1.0, "video": 0.8, "audio": 0.5, "text": 0.05, "document": 0.05}
    mixture = Mixture(dict.fromkeys(weights, 5000), weights, seed=3)
    found = Counter(d.source for d in drawn(mixture, 10_000))
    for name, weight in weights.items():
        assert found[name] == pytest.approx(10_000 * weight / 2.4, rel=0.01)


def test_the_order_is_random_and_of_the_seed() -> None:
    def order(seed: int) -> str:
        return "".join(d.source for d in drawn(Mixture({"a": 10**6, "b": 10**6}, {"a": 1.0, "b": 1.0}, seed), 400))

    assert order(1) == order(1) != order(2)
    assert {order(1)[i : i + 2] for i in range(0, 400, 2)} == {"ab", "ba"}  # even shares, and no fixed turn


def test_a_copy_and_a_restored_one_go_on_alike() -> None:
    mixture = Mixture({"a": 50, "b": 30}, {"a": 2.0, "b": 1.0}, seed=4, epochs={"b": 1.5})
    drawn(mixture, 77)
    copy = mixture.copy()
    restored = Mixture({"a": 50, "b": 30}, {"a": 2.0, "b": 1.0}, 4, 77, dict(mixture.per_source), dict(mixture.owed), {"b": 1.5})
    assert drawn(mixture, 200) == drawn(copy, 200) == drawn(restored, 200)


def test_two_epochs_touch_every_sample_exactly_twice_and_then_the_data_end() -> None:
    mixture = Mixture({"a": 70, "b": 13}, {"a": 1.0, "b": 1.0}, seed=1, epochs={"a": 2, "b": 2})
    found = Counter((d.source, d.place) for d in drawn(mixture, 2 * 83))
    assert set(found.values()) == {2} and len(found) == 83
    with pytest.raises(EndOfData, match="a 140, b 26"):
        mixture.draw()


def test_a_source_that_has_given_its_epochs_leaves_the_others_their_shares() -> None:
    mixture = Mixture({"a": 999, "b": 999, "c": 10}, {"a": 2.0, "b": 1.0, "c": 3.0}, seed=1, epochs={"c": 1.5})
    drawn(mixture, 60)
    assert mixture.per_source["c"] == 15
    before = dict(mixture.per_source)
    drawn(mixture, 300)
    assert mixture.per_source["a"] - before["a"] == pytest.approx(200, abs=2) and mixture.per_source["c"] == 15


@given(changes=st.lists(st.tuples(st.integers(1, 40), st.lists(st.sampled_from([0.0, 0.1, 1.0, 7.0]), min_size=3, max_size=3)), max_size=8))
def test_whatever_the_weights_do_an_epoch_repeats_and_loses_nothing(changes) -> None:
    sizes = {"a": 11, "b": 17, "c": 5}
    mixture = Mixture(dict(sizes), dict.fromkeys(sizes, 1.0), seed=9)
    draws = drawn(mixture, 5)
    for count, weights in changes:
        if any(weights):
            mixture.reweigh(dict(zip(sizes, weights, strict=True)), None)
            draws += drawn(mixture, count)
    for name, size in sizes.items():
        places = [d.place for d in draws if d.source == name]
        for start in range(0, len(places), size):
            epoch = places[start : start + size]
            assert len(set(epoch)) == len(epoch) and (len(epoch) < size or sorted(epoch) == list(range(size)))
    assert [d.number for d in draws] == list(range(len(draws)))


def test_a_changed_weight_holds_from_the_next_draw_on() -> None:
    mixture = Mixture({"a": 10**5, "b": 10**5, "new": 10**5}, {"a": 1.0, "b": 1.0, "new": 0.0}, seed=2)
    drawn(mixture, 1001)
    mixture.reweigh({"a": 1.0, "b": 3.0, "new": 4.0}, None)
    found = Counter(d.source for d in drawn(mixture, 8000))
    assert all(abs(found[name] - 1000 * weight) <= 3 for name, weight in {"a": 1, "b": 3, "new": 4}.items())


def test_temperature_draws_by_size() -> None:
    sizes = {"small": 100, "large": 10_000}
    for temperature, ratio in ((1.0, 100), (2.0, 10), (4.0, 10**0.5)):
        found = Counter(d.source for d in drawn(Mixture(sizes, dict.fromkeys(sizes, 1.0), 0, temperature=temperature), 3000))
        assert found["large"] / found["small"] == pytest.approx(ratio, rel=0.06)


@pytest.mark.parametrize(("changes", "said"), [
    ({"weights": {"a": 1.0, "c": 1.0}}, "name the source 'c', which is not in data.sources"), ({"weights": {"a": -1.0}}, ">= 0"),
    ({"weights": {"a": 0.0}}, "not all 0"), ({"weights": {"a": float("nan")}}, ">= 0"), ({"temperature": 0.0}, "data.temperature = 0.0"),
    ({"epochs": {"a": 0.0}}, "epochs = 0.0 must be above 0"),
])
def test_what_cannot_be_drawn_from_is_refused(changes, said) -> None:
    with pytest.raises(ValueError, match=said):
        Mixture(**{"sizes": {"a": 3}, "weights": {"a": 1.0}, "seed": 0, **changes})


def test_small_sources_keep_numpys_order() -> None:
    from ernie5.run.random_streams import stream

    expected = stream(5, "epoch", "x", 3).permutation(1000)
    assert [place_of(5, "x", 3, 1000, i) for i in range(1000)] == expected.tolist()


@pytest.mark.parametrize("size", [2, 3, 5, 31, 32, 33, 1000, 4097])
def test_an_order_without_a_table_is_a_permutation(size, monkeypatch) -> None:
    monkeypatch.setattr(epoch_order, "LARGEST_TABLE", 0)
    first, second = ([place_of(1, "x", epoch, size, i) for i in range(size)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(size))
    if size >= 1000:
        assert first != second
        steps = np.diff(first)
        assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.1 and (np.abs(steps) == 1).mean() < 0.02


def test_a_billion_samples_cost_no_more_than_a_thousand() -> None:
    mixture = Mixture({"huge": 10**9, "larger": 2**40 + 1}, {"huge": 1.0, "larger": 1.0}, seed=0, drawn=10**9)
    draws = drawn(mixture, 2000)
    for name, size in mixture.sizes.items():
        places = [d.place for d in draws if d.source == name]
        assert len(set(places)) == len(places) and 0 <= min(places) and max(places) < size
        assert np.mean(places) == pytest.approx(size / 2, rel=0.1)
