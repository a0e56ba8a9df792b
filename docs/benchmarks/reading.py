"""Raw reading of small samples: samples per CPU-second against webdataset, and how long a source of a million samples takes to open.

    OMP_NUM_THREADS=1 python docs/benchmarks/reading.py [--rounds 9] [--samples 20000] [--image-bytes 2000] [--open 1000000]

A sample is a caption, an image-sized member of random bytes and a small JSON. One process per implementation, all in turn in every round;
printed are medians of the ratio to webdataset within a round, and quartiles. The clock is CPU time of one thread, files are in the page
cache. Every implementation must give the same bytes (a checksum over all members) before it counts. Ours verifies the CRC-32 of every
member with zlib; webdataset and the plain read verify nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np

OURS, RANDOM, WEBDATASET, FLOOR, OPEN = "ours, in order", "ours, random order", "webdataset", "plain read of the tars", "open"


def peak_mib() -> float:
    """Peak resident memory of this process (ru_maxrss would count the parent that it was started from)."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def write(folder: Path, samples: int, image_bytes: int) -> None:
    """Shards of 1,000 samples."""
    from ernie5.data_pipelines.write_shards import Member, ShardWriter
    from ernie5.sequence import Modality

    random = np.random.default_rng(0)
    with ShardWriter(folder, "small") as writer:
        for i in range(samples):
            caption = f"a small red circle to the left of a large blue square, number {i}".encode()
            members = [Member(Modality.TEXT, "txt", caption), Member(Modality.IMAGE, "jpg", random.bytes(image_bytes))]
            writer.write(f"{i:08d}", members, {"width": 32, "height": 32, "language": "en"})


def read_all(what: str, folder: Path, check: bool) -> tuple[int, int]:
    """(samples, sum of checksums of texts and images)."""
    count = total = 0
    if what == FLOOR:
        for path in sorted(folder.glob("*.tar")):
            with open(path, "rb", buffering=0) as file:
                while file.read(2**20):
                    pass
    elif what == WEBDATASET:
        import webdataset

        for sample in webdataset.WebDataset([str(p) for p in sorted(folder.glob("*.tar"))], shardshuffle=False, empty_check=False):
            count += 1
            total += zlib.crc32(sample["0.txt"]) + zlib.crc32(sample["1.jpg"]) if check else 0
    else:
        from ernie5.data_pipelines.sources import ShardSource

        source = ShardSource("s", folder)
        order = range(len(source)) if what == OURS else np.random.default_rng(1).permutation(len(source)).tolist()
        for i in order:
            members = source.read(i).members
            count += 1
            total += sum(zlib.crc32(m.data) for m in members) if check else 0
    return count, total


def serve(what: str, folder: Path) -> None:
    """A child: one timed pass per line of stdin."""
    import warnings

    warnings.simplefilter("ignore")
    for line in sys.stdin:
        started = time.process_time()
        count, total = read_all(what, folder, line.strip() == "check")
        spent_s = time.process_time() - started
        print(json.dumps([count, total, spent_s, peak_mib()]), flush=True)


def compare(folder: Path, samples: int, rounds: int) -> None:
    """Rounds in turn, one table."""
    kinds = (WEBDATASET, OURS, RANDOM, FLOOR)
    here = [sys.executable, __file__, "--folder", str(folder), "--serve"]
    children = {k: subprocess.Popen([*here, k], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for k in kinds}

    def ask(kind: str, word: str) -> list:
        child = children[kind]
        child.stdin.write(word + "\n")
        child.stdin.flush()
        return json.loads(child.stdout.readline())

    checks = {kind: tuple(ask(kind, "check")[:2]) for kind in kinds if kind != FLOOR}
    if len(set(checks.values())) != 1:
        raise SystemExit(f"they do not read the same: {checks}")
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            _, _, spent_s, _ = ask(kind, "go")
            times[kind].append(spent_s)
    print(f"{'':24s} samples/CPU-s   x webdataset (quartiles)   IQR/median   peak RSS MiB")
    for kind in kinds:
        rss_mib = ask(kind, "go")[3]
        ratios = [a / b for a, b in zip(times[WEBDATASET], times[kind], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        spread = (high - low) / middle
        verdict = "  refused: too noisy" if spread > 0.15 else ""
        print(f"{kind:24s} {samples / statistics.median(times[kind]):13,.0f}   {middle:6.2f} ({low:.2f} to {high:.2f})"
              f"   {spread:16.2f}   {rss_mib:12.0f}{verdict}")
    for child in children.values():
        child.stdin.close()
        child.wait()


def open_once(folder: Path) -> None:
    """A child: open, and find the last sample."""
    from ernie5.data_pipelines.sources import ShardSource

    before, wall, cpu = peak_mib(), time.perf_counter(), time.process_time()
    source = ShardSource("s", folder)
    source._files.sample(*source._files.find(len(source) - 1))
    print(f"{len(source):,} samples: {time.perf_counter() - wall:.2f} s wall, {time.process_time() - cpu:.2f} s CPU, "
          f"{peak_mib() - before:.0f} MiB more")


def opening(folder: Path, samples: int) -> None:
    """First and later opens of shards of 1,000 samples with three members each; the tars are holes, nothing is read from them."""
    for number in range(samples // 1000):
        rows = [{"key": f"{i:08d}", "members": [{"name": n, "offset": 512 + i * 4096 + j * 1024, "length": 500, "crc32": i * 977}
                                                for j, n in enumerate(("0.txt", "1.jpg", "json"))]} for i in range(1000)]
        tar = folder / f"big-{number:06d}.tar"
        with open(tar, "wb") as file:
            file.truncate(2**22)
        tar.with_suffix(".index.json").write_text(json.dumps({"format": 1, "tar": tar.name, "size": 2**22, "samples": rows}))
    time.sleep(3)  # stamps settle
    for which in ("first open (JSON)", "second open", "third open"):
        child = [sys.executable, __file__, "--folder", str(folder), "--serve", OPEN]
        done = subprocess.run(child, capture_output=True, text=True, check=True)
        print(f"{which:20s} {done.stdout.strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--image-bytes", type=int, default=2_000)
    parser.add_argument("--open", type=int, default=0, metavar="N", help="also open a source of N samples (needs 300 MB per million)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        open_once(args.folder) if args.serve == OPEN else serve(args.serve, args.folder)
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, "
          f"Python {platform.python_version()}, webdataset {version('webdataset')}, zlib {zlib.ZLIB_RUNTIME_VERSION}, "
          f"{args.samples:,} samples of {args.image_bytes:,} bytes")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.samples, args.image_bytes)
        compare(Path(folder), args.samples, args.rounds)
    if args.open:
        with tempfile.TemporaryDirectory() as folder:
            opening(Path(folder), args.open)


if __name__ == "__main__":
    main()
