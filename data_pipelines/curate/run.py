"""A curation from start to end: `curate(recipe, "in_shards", "out_shards")`.

    OUT.partial/state.json    which recipe and data; another one is refused
               /parts/        first pass: checks and signatures, one file for some samples      (parts.py)
               /decision.npz  second pass: copies among all signatures                          (decide.py)
               /out/          third pass: shards, rejects.jsonl, report.json, recipe.yaml       (write.py)
    OUT                       appears, whole, when all is done

Killed at any point, the same command goes on with the next part or shard, and the result is the same, byte for byte.
Ours: all of it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from ernie5.config import diff, fingerprint, load_config, to_plain, to_yaml
from ernie5.data_pipelines.curate.decide import decide
from ernie5.data_pipelines.curate.decontaminate import EvalImage, EvalText
from ernie5.data_pipelines.curate.parts import Job, sign_part
from ernie5.data_pipelines.curate.prepare import open_data, open_eval, prepare
from ernie5.data_pipelines.curate.recipe import Curation
from ernie5.data_pipelines.curate.report import Report, by_step
from ernie5.data_pipelines.curate.write import num_shards, write_rejects, write_shard
from ernie5.run.files import atomic_write, sync_folder
from ernie5.run.lock import run_lock
from ernie5.run.progress import progress

# (function, count) -> the results of function(0) … function(count - 1), in any order; the seam for other engines (on_ray)
Workers = Callable[[Callable[[int], int], int], Iterator[int]]


def curate(curation: Curation, source_path: str | Path, out: str | Path, workers: Workers | None = None) -> Report:
    """Choose samples of the shards at `source_path` and write them to the new folder `out`. `workers`: default one process, this one.

    Raises ValueError when `out` exists, when shards or eval sets cannot be read, or when `out` was begun with another recipe or other data.
    """
    workers = workers or one_process
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} exists; give a new folder, or remove it first")
    if not curation.steps:
        raise ValueError("steps is empty; list what to filter, for example steps: [{exact: {}}]")
    source, steps = open_data(source_path, curation.fields, curation.disk_gib), prepare(curation)
    folder = out.absolute().with_name(f"{out.name}.partial")  # absolute: other processes may have another working folder
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder / "lock"):
        _check_state(folder, curation, source.fingerprints)
        job = Job(curation, steps, source, folder)
        for name in ("parts", "out"):
            (folder / name).mkdir(exist_ok=True)
        _run(f"looking at {source.name}", workers, partial(sign_part, job), job.num_parts, len(source))
        decision = decide(job)
        _run("writing", workers, partial(write_shard, job), num_shards(job, decision), len(decision.kept))
        counts = write_rejects(job, decision, folder / "out" / "rejects.jsonl")
        notes = tuple(f"{sample_id.rpartition('/')[0]}: {why}" for sample_id, why in source.problems if sample_id.endswith("/(ignored)"))
        labels = [curation.label(s) for s in range(len(job.steps) + 1)]
        report = Report(out, len(source), len(decision.kept), by_step(labels, counts), notes)
        report.save(folder / "out" / "report.json")
        atomic_write(folder / "out" / "recipe.yaml", to_yaml(curation).encode())
        for torn in (folder / "out").glob(".*.tmp"):  # of a run that was killed while writing a small file
            torn.unlink()
        os.replace(folder / "out", out)
        sync_folder(out.parent)
    shutil.rmtree(folder)
    return report


def one_process(function: Callable[[int], int], count: int) -> Iterator[int]:
    """All in this process."""
    return map(function, range(count))


def some_processes(processes: int) -> Workers:
    """That many processes of this machine. A script that calls this needs `if __name__ == "__main__":`."""
    if processes < 1:
        raise ValueError(f"processes = {processes} must be at least 1")
    return one_process if processes == 1 else partial(_in_pool, processes=processes)


def _in_pool(function: Callable[[int], int], count: int, processes: int) -> Iterator[int]:
    if not count:
        return
    context = multiprocessing.get_context("forkserver")  # not fork: threads of decoders and progress bars do not survive one
    context.set_forkserver_preload([__name__])  # imported once, not by every process
    with ProcessPoolExecutor(min(processes, count), context) as pool:
        waiting = {pool.submit(function, number) for number in range(count)}
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool:
            raise ValueError("a worker process died (is there enough memory?); the same command goes on where it stopped") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _run(title: str, workers: Workers, function: Callable[[int], int], count: int, num_samples: int) -> None:
    with progress(title, total=num_samples) as bar:
        for done in workers(function, count):
            bar.advance(done)


def _check_state(folder: Path, curation: Curation, shards: dict[str, str]) -> None:
    """Begin, or make sure that what lies in `folder` belongs to the same recipe and data."""
    path = folder / "state.json"
    way_out = f"put it back, give another OUT, or remove {folder} to start again"
    rules = [step.settings for step in curation.steps if isinstance(step.settings, EvalText | EvalImage)]
    evals = {rule.against: open_eval(rule, curation).fingerprint for rule in rules}
    now = {"recipe": to_plain(curation), "fingerprint": fingerprint(curation), "shards": shards, "evals": evals}
    if not path.exists():
        atomic_write(path, json.dumps(now).encode())
        return
    then = json.loads(path.read_bytes())
    if then["fingerprint"] != now["fingerprint"]:
        changes = "; ".join(diff(load_config(Curation, then["recipe"]), curation))
        raise ValueError(f"{folder} was begun with another recipe ({changes}); {way_out}")
    for what in ("shards", "evals"):
        changed = sorted(k for k in {*then[what], *now[what]} if then[what].get(k) != now[what].get(k))
        if changed:
            raise ValueError(f"{folder} was begun with other data ({changed[0]} was changed, added or removed); {way_out}")
