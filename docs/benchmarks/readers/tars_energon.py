"""megatron-energon over our shards: raw members, one process, batches of one unpacked sample, state by its savable loader."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from megatron.energon import (
    Cooker,
    DefaultTaskEncoder,
    Sample,
    SavableDataLoader,
    WorkerConfig,
    basic_sample_keys,
    edataclass,
    get_savable_loader,
    get_val_dataset,
    stateless,
)
from small_samples import Small

PACKAGE = "megatron-energon"
ORDERS = ("in order",)
SHARES_TARS = True
warnings.simplefilter("ignore")


def write(folder: Path, samples: int, image_bytes: int) -> None:
    """Its index of the tars that lie here."""
    energon = Path(sys.executable).with_name("energon")
    subprocess.run([energon, "prepare", folder, "--non-interactive", "--split-ratio", "0,1,0", "--sample-type", "CrudeWebdataset",
                    "--num-workers", "1", "--no-progress"], check=True, stdout=subprocess.DEVNULL)


@edataclass
class Stored(Sample):
    """What it asks a sample to be."""

    caption: bytes
    image: bytes
    attributes: bytes


@stateless
def _stored(sample: dict) -> Stored:
    return Stored(**basic_sample_keys(sample), caption=sample["0.txt"], image=sample["1.jpg"], attributes=sample["json"])


def _small(sample: Stored) -> Small:
    return Small(sample.caption, sample.image, sample.attributes)


class Raw(DefaultTaskEncoder):
    """Samples as they are stored."""

    decoder = None
    cookers = [Cooker(_stored)]


def _loader(folder: Path) -> SavableDataLoader:
    config = WorkerConfig(rank=0, world_size=1, num_workers=0)
    return get_savable_loader(get_val_dataset(folder, worker_config=config, batch_size=None, task_encoder=Raw()))


def read(folder: Path, order: str) -> Iterator[Small]:
    """Every sample once, in order."""
    return map(_small, _loader(folder))


def save(folder: Path, at: int, image_bytes: int) -> int:
    """Read `at` samples, keep the state; the checksum of the next one."""
    loader = _loader(folder)
    samples = iter(loader)
    for _ in islice(samples, at):
        pass
    torch.save(loader.save_state_rank(), folder / "state.pt")  # how its documentation keeps a state
    return _small(next(samples)).checksum()


def resume(folder: Path, at: int) -> Small:
    """The first sample after the saved state."""
    loader = _loader(folder)
    loader.restore_state_rank(torch.load(folder / "state.pt", weights_only=False))
    return _small(next(iter(loader)))
