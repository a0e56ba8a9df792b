"""`ernie5 data tokenize`: all shards of a job, over processes and ranks, and again after any interruption.

    OUT/tokenized.json               what the shards depend on; a folder of another job is refused
       /NAME-000000.tar, .index.json written whole, or not there
Rank r of R writes shards r, r + R, …; nobody waits for anybody, and another number of ranks may go on.
Ours: all of it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ernie5.data_pipelines.data_files import LocalFile
from ernie5.data_pipelines.index_cache import open_index
from ernie5.data_pipelines.shard_index import shard_index
from ernie5.data_pipelines.tokenized.about import About
from ernie5.data_pipelines.tokenized.processes import write_shards
from ernie5.data_pipelines.tokenized.write import Job, Work
from ernie5.run.files import atomic_write
from ernie5.run.lock import run_lock
from ernie5.run.progress import progress

PLAN = "tokenized.json"


@dataclass(frozen=True)
class Summary:
    """What lies in the folder now. `bytes`: by what they are of, `before` in the original files, `on_disk` of tars and indexes."""

    num_there: int
    num_shards: int
    num_samples: int
    num_rejected: int
    bytes: Counter[str]


def tokenize(job: Job, work: Work, processes: int = 1, rank: int = 0, world_size: int = 1) -> Summary:
    """Write the shards of this rank that are not there yet; `work` = `job.open()`. ValueError when `job.out` holds another job's."""
    if not 0 <= rank < world_size:
        raise ValueError(f"RANK = {rank} must be 0 to WORLD_SIZE - 1 = {world_size - 1}")
    if processes < 1:
        raise ValueError(f"--processes {processes} must be at least 1")
    job.out.mkdir(parents=True, exist_ok=True)
    with run_lock(job.out / f".lock-{rank}-of-{world_size}"):
        begin(work)
        todo = [n for n in range(rank, work.num_shards, world_size) if not work.is_there(n)]
        rejected = 0
        with progress(f"tokenizing {job.name}", sum(len(work.range_of(n)) for n in todo)) as bar:

            def tell(done: int) -> None:
                nonlocal rejected
                rejected += done < 0
                bar.advance(abs(done), rejected=rejected)

            write_shards(job, work, todo, min(processes, max(1, len(todo))), tell)
    (job.out / f".lock-{rank}-of-{world_size}").unlink(missing_ok=True)
    return summary(work)


def begin(work: Work) -> None:
    """Write the plan, or make sure that the folder holds the same one."""
    path = work.job.out / PLAN
    text = json.dumps(work.plan, indent=1, sort_keys=True).encode()
    if not path.exists():
        others = [p.name for p in work.job.out.glob("*.tar")]
        if others:
            raise ValueError(f"{work.job.out} holds {sorted(others)[0]} and no {PLAN}; give a new folder")
        atomic_write(path, text)
        return
    try:
        then = json.loads(path.read_bytes())
        changed = [*_differences(then, work.plan)]
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(f"{path} is damaged; remove {work.job.out} and tokenize again") from None
    if changed:
        raise ValueError(f"{work.job.out} was begun with {changed[0]}; put it back, give another folder, or remove this one")


def summary(work: Work) -> Summary:
    """Of all shards that are there, whoever wrote them."""
    there = [work.tar(n) for n in range(work.num_shards) if work.is_there(n)]
    sizes: Counter[str] = Counter()
    samples = rejected = 0
    for tar in there:
        about = About.parse(str(tar), open_index(shard_index(LocalFile(tar))).header.codes)
        samples, rejected = samples + about.num_samples, rejected + about.num_rejected
        sizes.update(about.bytes)
        sizes["on_disk"] += tar.stat().st_size + tar.with_suffix(".index.json").stat().st_size
    return Summary(len(there), work.num_shards, samples, rejected, sizes)


def told(found: Summary, out: Path) -> str:
    """For the terminal."""
    parts = ", ".join(f"{name} {_size(found.bytes[name])}" for name in ("texts", "pixels", "codes") if found.bytes[name])
    lines = [f"{found.num_there} of {found.num_shards} shards are there: {found.num_samples:,} samples, {found.num_rejected:,} rejected",
             f"{_size(found.bytes['before'])} of media became {_size(found.bytes['on_disk'])} ({parts or 'nothing'}), "
             f"{_size(found.bytes['on_disk'] // max(1, found.num_samples - found.num_rejected))} a sample"]
    if found.num_rejected:
        lines.append(f"`ernie5 data verify {out} --out problems.jsonl` names those that were rejected")
    if found.num_there < found.num_shards:
        lines.append("the other ranks have not finished theirs; training refuses the folder until all shards are there")
    return "\n".join(lines)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 10**7 else f"{num_bytes / 1e3:,.1f} kB"


def _differences(then: dict, now: dict, where: str = "") -> list[str]:
    """`another made_by.text.tokenizer (x, now y)` for every leaf that differs."""
    found = []
    for key in sorted({*then, *now}):
        a, b = then.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{where}{key}.")
        elif a != b and key != "stamp":
            found.append(f"another {where}{key} ({str(a)[:60]}, now {str(b)[:60]})")
    return found
