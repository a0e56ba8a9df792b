"""The same curation on many machines: Ray Data hands out the numbers of parts and shards, and the functions are those of one machine.

    curate(recipe, "/shared/in", "/shared/out", ray_workers())          # pip install 'ernie5[ray]'; a cluster: RAY_ADDRESS=…

Every machine must see IN and OUT under the same path (a shared file system, or a bucket for IN). Copies are searched for among all
signatures by the process that calls `curate`, whose memory is the limit (see exact, near_text, near_image for bytes a sample).
Ours: all of it; the report does not say on what it curated its data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ernie5.data_pipelines.curate.run import Workers


def ray_workers(cpus: float = 1.0) -> Workers:
    """Workers of the Ray cluster (or of this machine, when there is none), `cpus` for each task. ValueError when Ray is missing."""
    try:
        import ray.data  # noqa: F401  asked here, so that it is missing before anything is written
    except ImportError:
        raise ValueError("running on many machines needs Ray; pip install 'ernie5[ray]'") from None
    return partial(_on_ray, cpus=cpus)


def _on_ray(function: Callable[[int], int], count: int, cpus: float) -> Iterator[int]:
    import ray.data

    if count:
        numbers = ray.data.range(count, override_num_blocks=count)
        for row in numbers.map_batches(partial(_one_batch, function=function), batch_size=1, num_cpus=cpus).iter_rows():
            yield int(row["done"])


def _one_batch(batch: dict[str, np.ndarray], function: Callable[[int], int]) -> dict[str, np.ndarray]:
    return {"done": np.array([function(int(number)) for number in batch["id"]], np.int64)}
