"""Streams depend on their arguments and on nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import timeit

import numpy as np
import pytest
import torch

from ernie5.run.random_streams import stream, torch_generator


def test_golden_numbers_never_change() -> None:
    # these hold on every machine and in every release: a change here changes every run that is resumed
    assert stream(0, "bit flips", "a/b", 5).integers(0, 1000, 5).tolist() == [240, 462, 635, 715, 958]
    assert torch_generator(0, "init", 3).initial_seed() == 13551763543990769192


def test_the_generator_is_philox_with_the_key() -> None:
    key = np.frombuffer(hashlib.blake2b(b"(7, 'roles', 3)", digest_size=16).digest(), "<u8")
    plain = np.random.Generator(np.random.Philox(key=key))
    assert np.array_equal(stream(7, "roles", 3).integers(0, 2**63, 50), plain.integers(0, 2**63, 50))


def test_same_arguments_same_numbers_in_any_order_and_process() -> None:
    first = stream(1, "a", 2, "x").random(4)
    stream(1, "other").random(100)
    assert np.array_equal(first, stream(1, "a", 2, "x").random(4))
    assert np.array_equal(first, stream(np.int64(1), "a", np.int32(2), "x").random(4))  # type: ignore[arg-type]
    code = "from ernie5.run.random_streams import stream; print(stream(1, 'a', 2, 'x').random(4).tolist())"
    assert eval(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == first.tolist()


def test_different_arguments_different_streams() -> None:
    arguments = [(0, "a"), (1, "a"), (0, "b"), (0, "a", 0), (0, "a", "0"), (0, "a", 0, 0), (0, "a", "0, 0"), (0, "a', 0, '"), (0, "a,"),
                 (0, "a", ""), (0, "", "a"), (-1, "a"), (2**70, "a"), (0, "ä"), (0, "a", "bc"), (0, "ab", "c"), (0, "a", -1)]
    drawn = {tuple(stream(*a).integers(0, 2**63, 2)) for a in arguments}
    assert len(drawn) == len(arguments)
    assert len({torch_generator(*a).initial_seed() for a in arguments}) == len(arguments)


def test_streams_of_neighbouring_keys_are_independent() -> None:
    drawn = np.stack([stream(0, "x", k).standard_normal(1000) for k in range(50)])
    correlation = np.corrcoef(drawn) - np.eye(50)
    assert np.abs(correlation).max() < 0.16 and abs(drawn.mean()) < 0.02


def test_floats_and_none_are_no_keys() -> None:
    for key in (1.5, None, ("a",)):
        with pytest.raises(TypeError):
            stream(0, "a", key)  # type: ignore[arg-type]


def test_torch_generator_is_its_own() -> None:
    state = torch.get_rng_state()
    drawn = torch.rand(3, generator=torch_generator(0, "noise", 1))
    assert torch.equal(drawn, torch.rand(3, generator=torch_generator(0, "noise", 1)))
    assert torch.equal(state, torch.get_rng_state())


def test_a_stream_is_cheap() -> None:
    # 13 us measured; the bound leaves room for a busy machine
    assert min(timeit.repeat(lambda: stream(0, "bit flips", "a/b", 5), number=200, repeat=10)) / 200 < 100e-6
