"""10,000 random corruptions of shards and members: each must be noticed or change nothing.

    OMP_NUM_THREADS=1 python docs/benchmarks/damage.py --n 10000 --seed 0 [--start K] [--only members] [--out damage.jsonl]

A case is a function of (seed, number). It damages a fresh copy of a small world of shards (damage_cases.py), opens the folder, reads
and decodes every sample, and is held to:

    detected   a ValueError that names the shard, a refused sample with its reason, or a listed problem
    harmless   every sample is there and byte-identical to the original (or decodes to the same pixels and waves)
    WRONG      anything else: another sample's bytes, a part of a sample, a sample lost in silence, another kind of exception
    SLOW, BIG  more than 1 s of the processor, or more than 100 MB above the memory that media at the caps may take

`unknowable` cases flip bits in JPEG, WEBP, WAV, MP3 and clips before their checksum was made; only cost and form are held there. Exit
code 1 when any case fails. With more than 2,000 cases, a crash kills only a worker process, and is reported as WRONG.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import torch
from damage_cases import FOREIGN, INDEXED, KEPT, MEMBERS, RESUMED, UNKNOWABLE, Damage
from damage_world import SHARDS, Stored, plain_members, samples, tar_bytes, write

from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.sources import Record, ShardSource
from ernie5.run.progress import progress
from ernie5.run.random_streams import stream
from ernie5.sequence import Sample

LIMITS = MediaLimits()
CAP_MB = LIMITS.max_pixels * 3 / 1e6  # what the largest picture that is allowed takes
MORE_MB, MOST_S = 100.0, 1.0
GROUPS = {"indexed": INDEXED, "kept": KEPT, "resumed": RESUMED, "foreign": FOREIGN, "members": MEMBERS, "unknowable": UNKNOWABLE}
KINDS = [(kind, damage) for kind, group in GROUPS.items() for damage in group]
BLOCK, FRESH = 100, 20  # cases of one task of the worker; tasks of one process, which is then replaced


def kinds_of(only: str) -> list[tuple[str, Damage]]:
    """The damages whose name has `only` in it, every one for nothing."""
    return [(kind, damage) for kind, damage in KINDS if only in f"{kind}: {damage.__name__}"]


@cache
def originals() -> tuple[Stored, dict[str, Sample]]:
    """The good samples, stored and decoded, under `shard/key`."""
    stored = samples()
    return stored, {name: decode_record(Record(name, members, attributes), LIMITS) for name, (members, attributes) in stored.items()}


@cache
def templates() -> tuple[Path, Path]:
    """Folders of good shards: indexed, and foreign without index."""
    folder, (stored, _) = Path(tempfile.mkdtemp(prefix="damage-world-")), originals()
    write(folder / "indexed", stored)
    (folder / "foreign").mkdir()
    for shard in SHARDS:
        (folder / "foreign" / f"{shard}.tar").write_bytes(tar_bytes(plain_members(stored, shard)))
    return folder / "indexed", folder / "foreign"


def same(a: Sample, b: Sample) -> bool:
    """Equal attributes, and equal text, pixels and waves in the same order."""
    def equal(x: str | torch.Tensor, y: str | torch.Tensor) -> bool:
        return torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else x is y or str(x) == str(y)

    return a.attributes == b.attributes and len(a.segments) == len(b.segments) and all(
        x.modality is y.modality and equal(x.media, y.media) for x, y in zip(a.segments, b.segments, strict=True))


def look(folder: Path, unknowable: bool, begun_on: dict[str, str] | None) -> str:
    """`detected …` or `harmless`; `WRONG …` when the reader was fooled. `begun_on`: fingerprints that a run remembers."""
    stored, decoded = originals()
    try:
        source = ShardSource("s", folder)
        if begun_on is not None:
            source.check_unchanged(begun_on)
    except ValueError as error:
        return "detected at once" if any(word in str(error) for word in (*SHARDS, str(folder))) else f"WRONG: names no shard: {error}"
    problems = [f"{name}: {reason}" for name, reason in source.problems]
    intact, refused = set(), 0
    for index in range(len(source)):
        try:
            record = source.read(index)
            name = record.id.removeprefix("s/")
            if name in stored and (record.members, record.attributes) == stored[name]:
                intact.add(name)
                continue
            sample = decode_record(record, LIMITS)
        except BadSample:
            refused += 1
            continue
        except ValueError as error:  # the shard as a whole, noticed late
            if not any(word in str(error) for word in SHARDS):
                return f"WRONG: names no shard: {error}"
            refused += 1
            continue
        if name not in decoded or not (same(sample, decoded[name]) or unknowable):
            return f"WRONG: {name} is not what was written"
        intact.add(name)
    lost = len(stored) - len(intact)
    if lost and not refused and not problems:
        return f"WRONG: {lost} samples lost in silence"
    return "detected" if lost or refused or problems else "harmless"


def memory_mb(field: str) -> float:
    """VmRSS or VmHWM of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def run_case(seed: int, number: int, only: str) -> dict:
    """One corruption and what came of it."""
    random = stream(seed, "damage", number)
    kinds = kinds_of(only)
    kind, damage = kinds[number % len(kinds)]
    stored, _ = originals()
    with tempfile.TemporaryDirectory(prefix="damage-") as parent:
        folder = Path(parent) / "data"
        shutil.copytree(templates()[kind in ("foreign", "resumed")], folder)
        begun_on = None
        if kind in ("kept", "resumed") or (kind == "indexed" and random.random() < 0.5):  # it was opened before
            opened = ShardSource("s", folder)
            begun_on = opened.fingerprints if kind == "resumed" else None
        what = damage(folder, random, stored)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before, start = memory_mb("VmRSS"), time.process_time()
        try:
            verdict = look(folder, kind == "unknowable", begun_on)
        except Exception as error:
            verdict = f"WRONG: {type(error).__name__}: {error}"
        spent_s, grown_mb = time.process_time() - start, memory_mb("VmHWM") - before
        if [path.name for path in Path(parent).iterdir()] != ["data"]:
            verdict = "WRONG: something was written outside of the folder"
    if not verdict.startswith("WRONG") and (spent_s > MOST_S or grown_mb > CAP_MB + MORE_MB):
        verdict = f"{'SLOW' if spent_s > MOST_S else 'BIG'}: {spent_s:.2f} s, {grown_mb:.0f} MB; {verdict}"
    return {"number": number, "kind": f"{kind}: {damage.__name__}", "what": what, "verdict": verdict, "seconds": round(spent_s, 4),
            "megabytes": round(grown_mb, 1)}


def run_block(seed: int, numbers: range, only: str) -> list[dict]:
    """Cases, one after the other, in a worker process."""
    warnings.simplefilter("ignore")  # decoders may say what they think
    torch.set_num_threads(1)
    os.environ["XDG_CACHE_HOME"] = str(templates()[0].parent / "cache")  # indexes are kept there where they cannot be beside the data
    return [run_case(seed, number, only) for number in numbers]


def run(seed: int, numbers: range, only: str) -> list[dict]:
    """All cases; many of them in fresh processes that a crash may take down."""
    done: list[dict] = []
    blocks = [numbers[i:i + BLOCK] for i in range(0, len(numbers), BLOCK)]
    with progress("damage", len(numbers)) as bar:
        for part in (blocks[i:i + FRESH] for i in range(0, len(blocks), FRESH)):
            with nullcontext() if len(blocks) <= FRESH else ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                asked = [(block, pool.submit(run_block, seed, block, only) if pool else None) for block in part]
                for block, future in asked:
                    try:
                        done += future.result() if future else run_block(seed, block, only)
                    except BrokenProcessPool:
                        done.append({"number": block.start, "kind": "crash", "what": f"cases {block.start} to {block.stop - 1}",
                                     "verdict": "WRONG: the process died", "seconds": 0.0, "megabytes": 0.0})
                    bar.advance(len(block), failed=sum(case["verdict"].split(":")[0].isupper() for case in done))
    return done


def main() -> int:
    """Run, print a table by kind, and list what failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, value in (("n", 10_000), ("seed", 0), ("start", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", default="", metavar="WORD", help="only damages with WORD in their name")
    parser.add_argument("--out", type=Path, help="one JSON object per case")
    args = parser.parse_args()
    if not kinds_of(args.only):
        parser.error(f"--only {args.only}: no damage has that in its name")
    with tempfile.TemporaryDirectory(prefix="damage-") as place:
        os.environ["TMPDIR"] = tempfile.tempdir = place  # everything is made there, by workers too
        cases = run(args.seed, range(args.start, args.start + args.n), args.only)
    if args.out:
        args.out.write_text("".join(json.dumps(case) + "\n" for case in cases))
    failed = [case for case in cases if case["verdict"].split(":")[0].isupper()]
    print(f"{'':38}{'cases':>7}{'detected':>10}{'harmless':>10}{'failed':>8}{'max s':>8}{'max MB':>8}")
    for kind in [f"{kind}: {damage.__name__}" for kind, damage in KINDS] + ["crash"]:
        own = [case for case in cases if case["kind"] == kind]
        counts = Counter("failed" if case in failed else case["verdict"].split()[0] for case in own)
        if own:
            print(f"{kind:38}{len(own):7}{counts['detected']:10}{counts['harmless']:10}{counts['failed']:8}"
                  f"{max(c['seconds'] for c in own):8.2f}{max(c['megabytes'] for c in own):8.1f}")
    for case in failed[:30]:
        print(f"  case {case['number']}, {case['kind']}, {case['what']}: {case['verdict']}")
    print(f"{len(cases)} corruptions, {len(failed)} failed; at most {max(c['seconds'] for c in cases):.2f} s and "
          f"{max(c['megabytes'] for c in cases):.0f} MB above the start (allowed: {MOST_S:.0f} s, {CAP_MB:.0f} + {MORE_MB:.0f} MB)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
