"""Recordings that are read when they are needed: batches are functions of (seed, step), memory is bounded, damage is passed over."""

import pytest
import torch

from ernie5.run.random_streams import stream
from ernie5.tokenizers.audio.recordings import MOST_GAIN_DB, Recordings, at_loudness

DRAW = {"count": 5, "length": 400, "loudness_db": (-30.0, -20.0)}


class Shelf:
    """Ten sounds of 100 to 1000 samples; every third place is damaged. Counts what is read."""

    def __init__(self):
        self.num_reads = 0

    def __call__(self, place):
        self.num_reads += 1
        random = torch.Generator().manual_seed(place)
        return [] if place % 3 == 2 else [torch.rand(100 * (place + 1), generator=random) - 0.5, torch.empty(0)]


def test_batches_are_functions_of_seed_purpose_and_step_whatever_is_kept():
    one, other = Recordings(Shelf(), 10, 0), Recordings(Shelf(), 10, 10**6)
    for step in (3, 1, 3):
        assert torch.equal(one.batch(0, "x", step, **DRAW), other.batch(0, "x", step, **DRAW))
    assert not torch.equal(one.batch(0, "x", 1, **DRAW), one.batch(0, "x", 2, **DRAW))
    assert not torch.equal(one.batch(0, "x", 1, **DRAW), one.batch(1, "x", 1, **DRAW))
    assert one.batch(0, "x", 1, **DRAW).shape == (5, 400)


@pytest.mark.parametrize("cache_bytes", [0, 3000, 9000])
def test_memory_is_bounded(cache_bytes):
    recordings = Recordings(Shelf(), 10, cache_bytes)
    for step in range(20):
        recordings.batch(0, "x", step, **DRAW)
        held = sum(s.numel() * 4 for sounds in recordings.kept.values() for s in sounds)
        assert held == recordings.num_bytes <= cache_bytes


def test_what_is_kept_is_not_read_again():
    shelf = Shelf()
    recordings = Recordings(shelf, 10, 10**6)
    for step in range(40):
        recordings.batch(0, "x", step, **DRAW)
    assert shelf.num_reads == 10


def test_damaged_places_are_passed_over_and_nothing_at_all_is_an_error():
    recordings = Recordings(Shelf(), 10, 10**6)
    assert all(len(recordings.draw(stream(0, "x", i))) for i in range(50))
    with pytest.raises(ValueError, match="no readable sound in 1000 draws from 4 places"):
        Recordings(lambda place: [], 4, 0).draw(stream(0, "x"))


def test_pieces_come_from_everywhere_in_a_long_recording():
    recordings = Recordings(lambda place: [torch.linspace(0.1, 1, 10_000)], 1, 10**6)
    pieces = torch.cat([recordings.batch(0, "x", step, count=8, length=100, loudness_db=(0.0, 0.0)) for step in range(10)])
    growth = (pieces[:, -1] / pieces[:, 0]).sort().values   # loudness changes neither; the ratio tells where a piece began
    assert growth[0] < 1.02 and growth[-1] > 1.05


def test_pieces_have_the_loudness_that_was_drawn_and_never_clip():
    sound = 0.01 * torch.randn(4000)
    for loudness in (-35.0, -20.0):
        assert float(10 * at_loudness(sound, loudness).square().mean().log10()) == pytest.approx(loudness, abs=0.01)
    click = torch.zeros(4000)
    click[7] = 0.5
    assert float(at_loudness(click, -20.0).max()) <= 1
    assert float(at_loudness(1e-6 * torch.ones(10), -20.0).max()) == pytest.approx(1e-6 * 10 ** (MOST_GAIN_DB / 20))
    assert torch.equal(at_loudness(torch.zeros(10), -20.0), torch.zeros(10))
