"""Tensor, sequence and expert parallelism and the distributed optimizer of the Megatron engine do what one process does."""

import pytest
from parity import check_parity, train

PLANS = {
    "tensor 2": {"tensor": 2},
    "tensor 2 + sequence": {"tensor": 2, "sequence": True},
    "expert 2": {"expert": 2},
    "tensor 2, expert 2": {"tensor": 2, "expert": 2},
    "data 2": {},
    "zero 1": {"zero": 1},
    "zero 1, expert 2": {"zero": 1, "expert": 2},
}


@pytest.mark.parametrize("elastic", [False, True])
@pytest.mark.parametrize("plan", PLANS)
def test_two_ranks(ranks, references, plan, elastic) -> None:
    check_parity(ranks.run(2, train, {"engine": "megatron", **PLANS[plan]}, elastic), references[elastic])


@pytest.mark.parametrize("plan", [{"tensor": 2, "sequence": True, "expert": 2}, {"tensor": 2, "expert": 4, "zero": 1}, {"tensor": 2, "zero": 1}])
@pytest.mark.parametrize("elastic", [False, True])
def test_four_ranks(ranks, references, elastic, plan) -> None:
    check_parity(ranks.run(4, train, {"engine": "megatron", **plan}, elastic), references[elastic])
