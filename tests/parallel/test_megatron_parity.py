"""Tensor, sequence and expert parallelism and the distributed optimizer of the Megatron engine do what one process does."""

import pytest
from parity import check_parity, train

TWO = {
    "tensor": {"tensor": 2},
    "tensor and sequence": {"tensor": 2, "sequence": True},
    "expert": {"expert": 2},
    "shared state": {"zero": 1},
}
FOUR = {
    "tensor and expert": {"tensor": 2, "sequence": True, "expert": 2},
    "tensor, expert and shared state": {"tensor": 2, "expert": 4, "zero": 1},
}


@pytest.mark.parametrize("elastic", [False, True])
@pytest.mark.parametrize("plan", TWO)
def test_two_ranks(ranks, references, plan, elastic) -> None:
    check_parity(ranks.run(2, train, {"engine": "megatron", **TWO[plan]}, elastic), references[elastic])


@pytest.mark.parametrize("plan", [{}, {"zero": 1, "expert": 2}], ids=["data", "expert and shared state"])
def test_two_ranks_with_sub_models(ranks, references, plan) -> None:
    check_parity(ranks.run(2, train, {"engine": "megatron", **plan}, True), references[True])


@pytest.mark.parametrize(("plan", "elastic"), [
    ("tensor and expert", False), ("tensor and expert", True), ("tensor, expert and shared state", True)])
def test_four_ranks(ranks, references, plan, elastic) -> None:
    check_parity(ranks.run(4, train, {"engine": "megatron", **FOUR[plan]}, elastic), references[elastic])
