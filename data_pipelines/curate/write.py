"""The third pass: the samples that stay, in shards of even size, and one line for each of the others.

    {name}-000012.tar, .index.json    samples 12 x samples_per_shard … of those that stay, in the order of the source
    rejects.jsonl                     {"shard": …, "key": …, "step": "2 near_text", "reason": …, "value": …, "of": id of what it copies}

A shard depends on the decision only, so shards are written in any order by any process. A sample's key is its number in the source
(keys of different shards may be the same) with the old key; the attribute `origin` has the id it had.
Ours: all of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

from ernie5.data_pipelines.curate.decide import Decision, kept_samples
from ernie5.data_pipelines.curate.parts import KEPT, Job, load_text
from ernie5.data_pipelines.curate.prepare import Search
from ernie5.data_pipelines.curate.view import Reject
from ernie5.data_pipelines.write_shards import ShardWriter, index_path
from ernie5.run.files import atomic_write, sync_folder

_PARTS_AT_HAND = 64


def num_shards(job: Job, decision: Decision) -> int:
    """How many shards the samples that stay fill."""
    return -(-len(decision.kept) // job.curation.samples_per_shard)


def write_shard(job: Job, number: int) -> int:
    """Write one shard, unless it is there. Returns its number of samples."""
    size = job.curation.samples_per_shard
    chosen = kept_samples(job, number * size, (number + 1) * size)
    tar = job.folder / "out" / f"{job.curation.name}-{number:06d}.tar"
    if index_path(tar).exists():
        return len(chosen)
    scratch = job.folder / f"shard-{number:06d}"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    with ShardWriter(scratch, job.curation.name, samples_per_shard=size) as writer:
        for sample in chosen:
            record = job.view(sample).record
            writer.write(_key(sample, record.id), record.members, {"origin": record.id, **record.attributes})
    _move(writer.shards[0], tar)
    scratch.rmdir()
    return len(chosen)


def write_rejects(job: Job, decision: Decision, path: Path) -> Counter[tuple[str, str]]:
    """Write one line for each sample that goes, and for what could not be read as a sample. Returns counts by (step, reason)."""
    counts: Counter[tuple[str, str]] = Counter()
    partial_path = path.with_name(f"{path.name}.partial")
    with open(partial_path, "w", encoding="utf-8") as file:
        for sample_id, step, reject in _rejects(job, decision):
            _, shard, key = (*sample_id.split("/", 2), "", "")[:3]
            counts[step, reject.reason] += 1
            line = {"shard": shard, "key": key, "step": step, "reason": reject.reason, "value": reject.value}
            file.write(json.dumps(line | ({"of": reject.of} if reject.of else {})) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial_path, path)
    sync_folder(path.parent)
    return counts


def _rejects(job: Job, decision: Decision) -> Iterator[tuple[str, str, Reject]]:
    texts = lru_cache(_PARTS_AT_HAND)(partial(load_text, job))
    for sample_id, reason in job.source.problems:
        if not sample_id.endswith("/(ignored)"):  # a note about members of unknown kinds, not a sample
            yield sample_id, "read", Reject("damaged", reason)
    for part in range(job.num_parts):
        for i, number in enumerate(job.part_range(part)):
            s = int(decision.fate[number])
            if s == KEPT:
                continue
            ids, rejected = texts(part)
            if s and isinstance(step := job.steps[s - 1], Search):
                other, place = divmod(int(decision.of[number]), job.curation.samples_per_part)
                reject = Reject(step.reason, round(float(decision.value[number]), 4), texts(other)[0][place])
            else:
                reject = rejected[i]
            yield ids[i], job.curation.label(s), reject


def _key(number: int, sample_id: str) -> str:
    old = re.sub(r"[^A-Za-z0-9_-]", "_", sample_id.split("/", 2)[-1])
    return f"{number:09d}_{old}"[:64]


def _move(tar: Path, to: Path) -> None:
    """Give a finished shard its place and number; the index comes last, as ShardWriter has it."""
    index = json.loads(index_path(tar).read_bytes()) | {"tar": to.name}
    os.replace(tar, to)
    atomic_write(index_path(to), json.dumps(index, separators=(",", ":")).encode())
    index_path(tar).unlink()
