"""Raw reading of small samples and resuming after a million of them, beside webdataset, megatron-energon, mosaicml-streaming and litdata.

    python docs/benchmarks/reading_peers.py --venvs DIR --data DIR [--rounds 7] [--samples 10000] [--resume 1000000] [--only MODULE …]

Every peer has a virtual environment of its own in `--venvs`, made with pip where it is missing. The same samples are written in every
format to `--data` and kept there. Reading: one process per implementation, all in turn in every round; CPU time, no workers, files in the
page cache; ratios within a round. All must give the same bytes first. Ours checks the CRC-32 of every member, the others verify nothing.
Resume: every time in a fresh process, from "imported" to the first sample, which must be the one that follows. webdataset has no state: it
skips, once.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("readers")))
from parent import Reader, compare  # noqa: E402

PEERS = {"tars_webdataset": "webdataset==1.0.2", "tars_energon": "megatron-energon==7.4.1", "mds_streaming": "mosaicml-streaming==0.13.0",
         "chunks_litdata": "litdata==0.2.76"}
FOLDERS = {"mds_streaming": "mds", "chunks_litdata": "chunks"}   # the others read the same tars
KINDS = {
    "webdataset": ("tars_webdataset", "in order"),
    "ours, in order": ("ours", "in order"),
    "ours, random order": ("ours", "random order"),
    "ours, drawn by the mixture": ("ours", "drawn by the mixture"),
    "energon, in order": ("tars_energon", "in order"),
    "streaming, in order": ("mds_streaming", "in order"),
    "streaming, shuffled": ("mds_streaming", "shuffled"),
    "litdata, in order, views": ("chunks_litdata", "in order, views"),
    "litdata, shuffled, views": ("chunks_litdata", "shuffled, views"),
    "litdata, in order, copied": ("chunks_litdata", "in order, copied"),
    "plain read of the tars": ("plain_tars", "in order"),
}


def pythons(folder: Path) -> dict[str, Path | str]:
    """The interpreter of every module; ours and the floor run in this one."""
    found: dict[str, Path | str] = {"ours": sys.executable, "plain_tars": sys.executable}
    for module, package in PEERS.items():
        home = folder / package.partition("==")[0]
        if not (home / "bin/python").exists():
            venv.create(home, with_pip=True)
            subprocess.run([home / "bin/pip", "install", "--quiet", "torch==2.13.0", package], check=True)
        found[module] = home / "bin/python"
    return found


def written(python: dict[str, Path | str], data: Path, samples: int, image_bytes: int) -> dict[str, Path]:
    """The folder of every module, written where it is missing."""
    folders = {module: data / FOLDERS.get(module, "tars") for module in python}
    for module in folders:
        done = data / f"{module}.done"
        if module in ("tars_webdataset", "plain_tars") or done.exists():
            continue
        folders[module].mkdir(parents=True, exist_ok=True)
        reader = Reader(python[module], module, folders[module])
        reader.ask("write", samples=samples, image_bytes=image_bytes)
        reader.close()
        done.touch()
    return folders


def reading(python: dict[str, Path | str], folders: dict[str, Path], samples: int, rounds: int) -> None:
    """One process per implementation."""
    readers = {module: Reader(python[module], module, folders[module]) for module in sorted({module for module, _ in KINDS.values()})}
    kinds = {kind: (readers[module], order) for kind, (module, order) in KINDS.items()}
    compare(kinds, "webdataset", "plain read of the tars", samples, rounds)
    for reader in readers.values():
        reader.close()


def resuming(python: dict[str, Path | str], folders: dict[str, Path], at: int, image_bytes: int, rounds: int) -> None:
    """A fresh process every time."""
    expected = {}
    for module in folders:
        reader = Reader(python[module], module, folders[module])
        expected[module] = reader.ask("save", at=at, image_bytes=image_bytes)
        reader.close()
    times: dict[str, list[tuple[float, float]]] = {module: [] for module in folders}
    for number in range(rounds):
        for module in folders:
            if number and module == "tars_webdataset":
                continue
            reader = Reader(python[module], module, folders[module])
            wall_s, cpu, checksum = reader.ask("resume", at=at)
            reader.close()
            if checksum != expected[module]:
                raise SystemExit(f"{module} goes on with another sample than the one that follows")
            times[module].append((wall_s, cpu))
    print(f"\n{'':20s} after samples   CPU s to the first sample (quartiles)   wall s")
    for module, pairs in times.items():
        walls, cpus = zip(*pairs, strict=True)
        low, middle, high = statistics.quantiles(cpus, n=4) if len(cpus) > 1 else cpus * 3
        print(f"{module:20s} {at:13,d}   {middle:9.3f} ({low:.3f} to {high:.3f})   {statistics.median(walls):20.3f}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=10_000, metavar="N", help="0: no reading")
    parser.add_argument("--image-bytes", type=int, default=2_000)
    parser.add_argument("--resume", type=int, default=1_000_000, metavar="N", help="0: not at all; a million needs 4 GB")
    parser.add_argument("--only", nargs="+", choices=("ours", *PEERS), default=("ours", *PEERS), metavar="MODULE", help="resume these")
    args = parser.parse_args()
    python = pythons(args.venvs)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python "
          f"{platform.python_version()}, {', '.join(PEERS.values())}, {args.samples:,} samples of {args.image_bytes:,} bytes", flush=True)
    if args.samples:
        reading(python, written(python, args.data / f"{args.samples}x{args.image_bytes}", args.samples, args.image_bytes), args.samples,
                args.rounds)
    if args.resume:
        tiny = 16  # bytes of an image: what is measured is the way to it
        some = {module: python[module] for module in args.only}
        resuming(some, written(some, args.data / f"{args.resume}-resume", args.resume + 1000, tiny), args.resume, tiny, args.rounds)


if __name__ == "__main__":
    main()
