"""The torch engine under its plans does what one process does."""

import pytest
from parity import check_parity, train


@pytest.mark.parametrize("elastic", [False, True])
def test_data_parallel(ranks, references, elastic) -> None:
    check_parity(ranks.run(2, train, {}, elastic), references[elastic])
