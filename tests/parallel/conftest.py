"""One pool of ranks for all tests of this folder."""

import pytest
from parity import Trained, alone
from rank_pool import RankPool


@pytest.fixture(scope="session")
def ranks():
    """`ranks.run(size, function, *args)`."""
    pool = RankPool()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def references() -> dict[bool, Trained]:
    """Five steps on one process, with and without sub-models."""
    return {elastic: alone(elastic) for elastic in (False, True)}
