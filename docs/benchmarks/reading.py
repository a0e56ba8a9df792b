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
import subprocess
import sys
import tempfile
import time
import zlib
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("readers")))
from child import peak_mib  # noqa: E402
from parent import Reader, compare  # noqa: E402

OPEN = "open"
KINDS = {
    "webdataset": ("tars_webdataset", "in order"),
    "ours, in order": ("ours", "in order"),
    "ours, random order": ("ours", "random order"),
    "plain read of the tars": ("plain_tars", "in order"),
}


def reading(folder: Path, samples: int, image_bytes: int, rounds: int) -> None:
    """Write the shards, then one process per implementation."""
    writer = Reader(sys.executable, "ours", folder)
    writer.ask("write", samples=samples, image_bytes=image_bytes)
    writer.close()
    readers = {module: Reader(sys.executable, module, folder) for module in sorted({module for module, _ in KINDS.values()})}
    kinds = {kind: (readers[module], order) for kind, (module, order) in KINDS.items()}
    compare(kinds, "webdataset", "plain read of the tars", samples, rounds)
    for reader in readers.values():
        reader.close()


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
        open_once(args.folder)
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, "
          f"Python {platform.python_version()}, webdataset {version('webdataset')}, zlib {zlib.ZLIB_RUNTIME_VERSION}, "
          f"{args.samples:,} samples of {args.image_bytes:,} bytes")
    with tempfile.TemporaryDirectory() as folder:
        reading(Path(folder), args.samples, args.image_bytes, args.rounds)
    if args.open:
        with tempfile.TemporaryDirectory() as folder:
            opening(Path(folder), args.open)


if __name__ == "__main__":
    main()
