"""Tensor parallelism of the Megatron engine does what one process does."""

import pytest
from parity import check_parity, train


@pytest.mark.parametrize("elastic", [False, True])
def test_tensor_parallel(ranks, references, elastic) -> None:
    check_parity(ranks.run(2, train, {"engine": "megatron", "tensor": 2}, elastic), references[elastic])
