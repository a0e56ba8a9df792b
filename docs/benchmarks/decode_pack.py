"""What our own code costs beside the decoders: from shards to packed batches of pictures, clips, sounds and texts.

    glue = (whole path - plain decoders) / plain decoders                                     CPU seconds of one thread

    OMP_NUM_THREADS=1 python docs/benchmarks/decode_pack.py [--rounds 9] [--samples 1000] [--window 1000] [--rows 8] [--length 8192]

`plain decoders`: Pillow, PyAV, soundfile with soxr and the text tokenizer, the same settings on the same bytes in memory, nothing else.
`whole path`: read, CRC-32, header checks, caps, decoding, text ids, roles, history corruption, packing over a window, groups, collated
batches of rows x length. The neural tokenizers and the quantizer of pictures are stand-ins that cost nothing: they are model work; the
quantizer is measured in a line of its own. `webdataset` reads the same tars, decodes with the plain decoders and packs nothing.
One process each, in turn in every round; every round is one epoch from nothing (files are in the page cache, no result is kept).
Before the clock starts, all of them must give the same pixels, samples and ids. `--parts` adds where the time of the whole path goes.
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
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from decode_pack_world import LIMITS, PLAIN, RATE_HZ, SHARES, KnownVision, make_loader, open_sources, write

from ernie5.data_pipelines.decode_media import decode_member
from ernie5.data_pipelines.loader import BatchShape, EndOfData
from ernie5.data_pipelines.write_shards import MODALITY_OF_EXTENSION
from ernie5.sequence import Modality
from ernie5.tokenizers.text import Utf16Tokenizer

FLOOR, OURS, QUANTIZED, WEBDATASET = "plain decoders", "whole path", "+ quantizer", "webdataset"


class Bench:
    """One kind of pass over the corpus, again and again."""

    def __init__(self, what: str, folder: Path, args: argparse.Namespace) -> None:
        self.what, self.folder, self.args = what, folder, args
        self.text = Utf16Tokenizer.load(folder / "tokenizer")
        self.sources = open_sources(folder)
        self.vision = KnownVision(real=what == QUANTIZED)
        self.members = [m for s in self.sources.values() for i in range(len(s)) for m in s.read(i).members] if what == FLOOR else []

    def plain(self, modality: Modality, data: bytes) -> np.ndarray | torch.Tensor:
        """One file by the plain decoders; a text becomes ids."""
        return self.text.encode(data.decode()) if modality is Modality.TEXT else PLAIN[modality](data)

    def run(self) -> int:
        """One pass; the number of positions in use where batches are made."""
        if self.what == FLOOR:
            for member in self.members:
                self.plain(member.modality, member.data)
            return 0
        if self.what == WEBDATASET:
            import webdataset

            def decode(key: str, data: bytes) -> np.ndarray | torch.Tensor | None:
                modality = MODALITY_OF_EXTENSION.get(key.rpartition(".")[2])
                return None if modality is None else self.plain(modality, data)

            tars = [str(path) for name in SHARES for path in sorted((self.folder / name).glob("*.tar"))]
            return sum(0 for _ in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode(decode))
        return sum(packed.num_tokens for batch in self.batches() for packed in batch.micro_batches)

    def batches(self):
        """One epoch; every batch is let go before the next one is made."""
        loader = make_loader(self.sources, self.text, self.vision, self.args.window)
        try:
            while True:
                yield loader.make(BatchShape(self.args.rows, self.args.length, self.args.rows))
        except EndOfData:
            loader.close()

    def check(self) -> None:
        """SystemExit unless ours and the plain decoders agree on every file."""
        seen = set()
        for source in self.sources.values():
            for i in range(len(source)):
                for member in source.read(i).members:
                    if (crc := zlib.crc32(member.data)) in seen:
                        continue
                    seen.add(crc)
                    mine = decode_member(member, LIMITS, RATE_HZ)
                    mine = self.text.encode(mine) if isinstance(mine, str) else mine
                    theirs = torch.as_tensor(np.array(self.plain(member.modality, member.data)))
                    if member.modality in (Modality.IMAGE, Modality.VIDEO):
                        theirs = theirs.reshape(-1, *theirs.shape[-3:]).permute(0, 3, 1, 2)
                    if not torch.equal(mine, theirs):
                        raise SystemExit(f"{source.name}/{i}: the {member.modality.value} is not the same")


def parts(bench: Bench) -> dict[str, float]:
    """Seconds of one pass by part; the clock in every call costs a little itself."""
    from ernie5.data_pipelines import decode_media, fetch, grouping, loader, measure, sample_maker, source_shards, stream
    from ernie5.tokenizers import text

    spent: dict[str, float] = defaultdict(float)
    open_calls: list[float] = []

    def timed(owner: object, name: str, label: str) -> None:
        call: Callable = getattr(owner, name)

        def wrapper(*args, **keywords):
            open_calls.append(0.0)
            start = time.thread_time()
            try:
                return call(*args, **keywords)
            finally:
                took = time.thread_time() - start
                spent[label] += took - open_calls.pop()
                if open_calls:
                    open_calls[-1] += took

        setattr(owner, name, wrapper)

    timed(source_shards.ShardSource, "read", "reading, CRC-32, JSON")
    for name in ("image", "video", "audio", "text"):
        timed(decode_media, f"decode_{name}", f"decoding: {name}")
    timed(text.Utf16Tokenizer, "encode", "text ids")
    timed(measure.Measure, "learn", "lengths, roles")
    timed(measure.Measure, "of", "lengths, roles")
    timed(sample_maker, "assign_roles", "roles")
    timed(grouping.Grouping, "document", "groups")
    timed(loader, "collate", "collating")
    timed(stream.WindowPacker, "fill", "packing")
    timed(fetch.Fetch, "get", "fetching, keys")
    timed(loader.Loader, "make", "stream, names, the rest")
    start = time.thread_time()
    bench.run()
    return dict(spent) | {"whole": time.thread_time() - start}


def serve(bench: Bench) -> None:
    """A child: one timed pass per line of stdin."""
    for line in sys.stdin:
        if line.strip() == "check":
            bench.check()
        started = time.process_time()
        tokens = bench.run()
        print(json.dumps([tokens, time.process_time() - started]), flush=True)


def floor_parts(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Seconds of the plain decoders by modality."""
    bench, spent = Bench(FLOOR, folder, args), defaultdict(float)
    for member in bench.members:
        start = time.thread_time()
        bench.plain(member.modality, member.data)
        spent[member.modality.value] += time.thread_time() - start
    return dict(spent)


def compare(folder: Path, args: argparse.Namespace) -> None:
    """Rounds in turn, one table."""
    kinds = (FLOOR, OURS, QUANTIZED, WEBDATASET)
    here = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder), "--serve"]
    children = {kind: subprocess.Popen([*here, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for kind in kinds}

    def ask(kind: str, word: str) -> tuple[int, float]:
        child = children[kind]
        assert child.stdin and child.stdout
        child.stdin.write(word + "\n")
        child.stdin.flush()
        return tuple(json.loads(child.stdout.readline()))

    tokens = {kind: ask(kind, "check" if kind == OURS else "warm")[0] for kind in kinds}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(args.rounds):
        for kind in kinds:
            times[kind].append(ask(kind, "go")[1])
    print(f"{'':18s}{'CPU s':>8}   {'tokens/CPU-s':>13}   more than the plain decoders (quartiles)")
    for kind in kinds:
        low, middle, high = statistics.quantiles([a / b - 1 for a, b in zip(times[kind], times[FLOOR], strict=True)], n=4)
        median = statistics.median(times[kind])
        verdict = "  refused: too noisy" if high - low > 0.15 * (1 + middle) else ""
        print(f"{kind:18s}{median:8.3f}   {tokens[kind] / median if tokens[kind] else 0:13,.0f}   {100 * middle:6.1f} % "
              f"({100 * low:.1f} to {100 * high:.1f}){verdict}", flush=True)
    for child in children.values():
        assert child.stdin
        child.stdin.close()
        child.wait()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--window", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--parts", action="store_true", help="where the time goes, as well")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.serve:
        return serve(Bench(args.serve, args.folder, args))
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        if not (folder / "tokenizer").exists():
            write(folder, args.samples)
        names = ("pillow", "av", "soundfile", "soxr", "sentencepiece", "webdataset", "torch")
        print(f"{platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}, "
              + ", ".join(f"{n} {version(n)}" for n in names), flush=True)
        compare(folder, args)
        if args.parts:
            print("parts of one pass, ms:", {k: round(1000 * v) for k, v in parts(Bench(OURS, folder, args)).items()})
            print("plain decoders, ms:", {k: round(1000 * v) for k, v in floor_parts(folder, args).items()})


if __name__ == "__main__":
    main()
