"""What every test starts from: two threads, fixed seeds, no compiler, no network, no display."""

import os

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("MPLBACKEND", "Agg")

import random  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
settings.register_profile("ernie5", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("ernie5")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """The same global random numbers at the start of every test, in any order of tests."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory):
    """One finished micro run (micro_run.py) of 6 steps; other tests use its tokenizers, demo shards and results, and leave it as it is."""
    from micro_run import micro_recipe, run_micro

    return run_micro(micro_recipe(tmp_path_factory.mktemp("runs") / "micro", None))


@pytest.fixture
def one_thread():
    """Sums in one order whatever the shapes around them: with several threads, the last bits depend on both."""
    from ernie5.data_pipelines.tokenized import processes

    with processes.one_thread():
        yield
