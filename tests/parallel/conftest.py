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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs other processes is slow; this hook sees the tests of all folders."""
    for item in items:
        if "ranks" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
