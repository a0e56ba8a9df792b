"""What tokenized shards cost and bring: time to write them, time to read them against encoding on the fly, and bytes.

    ratio = CPU seconds of an epoch of batches from the original shards / from tokenized shards        one thread, rounds in turn

    OMP_NUM_THREADS=1 python docs/benchmarks/tokenized.py [--samples 100] [--rounds 3] [--channels 64 128 256]

The corpus is that of decode_pack.py: pictures of 256 x 256, clips of 9 x 128 x 128, sounds of 5 s, texts. The tokenizers have the sizes
of recipes/one_gpu.yaml and random weights: those cost as much as trained ones. Before the clock starts, both ways must give the same
batches. `pictures` says what storing the pixels, and storing or making the features, takes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from decode_pack_world import LIMITS, SHARES, write
from PIL import Image

from ernie5.config import load_config, to_plain
from ernie5.data_pipelines.decode_image import decode_image
from ernie5.data_pipelines.encode import Encoder
from ernie5.data_pipelines.loader import BatchShape, EndOfData, Loader
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.sample_maker import SampleMaker
from ernie5.data_pipelines.tokenized.run import tokenize, told
from ernie5.data_pipelines.tokenized.tensors import from_bytes, to_bytes
from ernie5.recipe import Recipe
from ernie5.tokenizers.audio.codec import AudioCodec, AudioCodecConfig
from ernie5.tokenizers.text import Utf16Tokenizer
from ernie5.tokenizers.vision.causal_autoencoder import AutoencoderConfig
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer
from ernie5.train.assemble import grouping_of, mixture_of, vocabulary_of, widths_of
from ernie5.train.prepare import load_tokenizers, open_training_sources
from ernie5.train.tokenize_data import Keep, tokenize_job

SHAPE = BatchShape(8, 8192, 8)


def make(folder: Path, num_samples: int, channels: tuple[int, ...]) -> Recipe:
    """Corpus, tokenizers and the recipe of both."""
    write(folder / "raw", num_samples)
    torch.manual_seed(0)
    autoencoder = AutoencoderConfig(channels, (0, 1, 1), 16)
    VisionGenerationTokenizer(GenerationTokenizerConfig(autoencoder, num_scales=7)).save(folder / "tokenizers" / "vision")
    AudioCodec(AudioCodecConfig(num_codebooks=4, codebook_size=1024, dim=256, frame_dim=512)).save(folder / "tokenizers" / "audio")
    Utf16Tokenizer.load(folder / "raw" / "tokenizer").save(folder / "tokenizers" / "text")
    return recipe_of(folder, folder / "raw", SHARES)


def recipe_of(folder: Path, data: Path, kinds: Iterable[str]) -> Recipe:
    """One epoch of these kinds of samples, which lie below `data`."""
    sources = {kind: {"path": str(data / kind), "epochs": 1} for kind in kinds}
    return load_config(Recipe, {"run": {"dir": str(folder)}, "data": {"limits": to_plain(LIMITS), "sources": sources}})


class Epoch:
    """One way to the batches of an epoch; only the way from shards to batches is on the clock."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.tokenizers = recipe, load_tokenizers(recipe)
        self.corpus = open_training_sources(recipe, Quarantine(Path(recipe.run.folder) / "log.jsonl"), self.tokenizers)

    def run(self, check: bool = False) -> tuple[float, str]:
        """(CPU seconds of a sample, hash of everything where `check`)."""

        def reject(key: str, reason: str) -> None:
            raise ValueError(f"{key}: {reason}")

        recipe, tokenizers, sizes = self.recipe, self.tokenizers, {name: len(source) for name, source in self.corpus.sources.items()}
        maker = SampleMaker(self.corpus.read, reject, lambda: None, Encoder(tokenizers), grouping_of(recipe, tokenizers),
                            recipe.data.roles, seed=0)
        loader = Loader(maker, mixture_of(recipe, sizes), widths_of(vocabulary_of(recipe, tokenizers)))
        seen, digest, start = 0, hashlib.sha256(), time.process_time()
        try:
            while True:
                batch = loader.make(SHAPE)
                seen += len(batch.sample_ids)
                if check:
                    feed(digest, batch.micro_batches)
        except EndOfData:
            spent = time.process_time() - start
            loader.close()
        return spent / seen, digest.hexdigest()


def feed(digest, value: object) -> None:
    """Every tensor below a value."""
    if isinstance(value, torch.Tensor):
        digest.update(value.contiguous().numpy().tobytes())
    for part in [getattr(value, f.name) for f in fields(value)] if is_dataclass(value) else value if isinstance(value, tuple) else ():
        feed(digest, part)


def pictures(recipe: Recipe, num: int = 12) -> None:
    """Bytes and milliseconds of one picture, by what is kept of it."""
    tokenizers = load_tokenizers(recipe)
    corpus = open_training_sources(recipe, Quarantine(Path(recipe.run.folder) / "log.jsonl"), tokenizers)
    stored = [corpus.sources["image"].read(i % len(corpus.sources["image"])).members[1] for i in range(num)]
    media = [decode_image(member.data, LIMITS) for member in stored]
    codes = [tokenizers.vision.encode(x) for x in media]
    flat = [Image.fromarray(x[0].permute(1, 2, 0).contiguous().numpy()) for x in media]

    def saved(image: Image.Image, kind: str, **how: object) -> bytes:
        file = BytesIO()
        image.save(file, kind, **how)
        return file.getvalue()

    def row(name: str, data: list, work) -> None:
        times = []
        for _ in range(3):
            start = time.process_time()
            for one in data:
                work(one)
            times.append((time.process_time() - start) / len(data))
        size = f"{statistics.mean(map(len, data)) / 1e3:9.1f} kB" if isinstance(data[0], bytes) else f"{'':12}"
        print(f"  {name:38}{size}{1e3 * min(times):10.2f} ms")

    row("original file, decoded and scaled", [m.data for m in stored], lambda data: decode_image(data, LIMITS))
    row("pixels raw", [x.numpy().tobytes() for x in media], lambda data: np.frombuffer(data, np.uint8).copy())
    row("pixels PNG, level 1", [saved(i, "PNG", compress_level=1) for i in flat], lambda data: np.array(Image.open(BytesIO(data))))
    row("pixels PNG, level 6", [saved(i, "PNG", compress_level=6) for i in flat], lambda data: np.array(Image.open(BytesIO(data))))
    row("pixels WEBP, lossless, fastest", [saved(i, "WEBP", lossless=True, method=0, quality=0) for i in flat],
        lambda data: np.array(Image.open(BytesIO(data))))
    row("latent, read and checked", [to_bytes({"0": c.latent}) for c in codes], from_bytes)
    row("features, read", [to_bytes({"0": c.features}) for c in codes], from_bytes)
    row("features, made again", media, tokenizers.vision.encode)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--channels", type=int, nargs=3, default=[64, 128, 256])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = make(folder, args.samples, tuple(args.channels))
        print(f"{platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, "
              f"{args.samples} samples, vision {args.channels}", flush=True)
        for processes in (1, 2):
            for kind in SHARES if processes == 1 else ("image",):
                out = folder / f"codes-{processes}" / kind
                job = tokenize_job(recipe, kind, out, None, Keep(), samples_per_shard=max(1, round(args.samples / 20)))
                work, start = job.open(), time.perf_counter()
                found = tokenize(job, work, processes)
                took = time.perf_counter() - start
                print(f"  {processes} process(es), {kind:6} {found.num_samples / took:8.1f} samples/s   " +
                      told(found, out).splitlines()[1] * (processes == 1), flush=True)
        for kind in SHARES:
            ways = {way: Epoch(recipe_of(folder, folder / where, [kind])) for way, where in
                    (("on the fly", "raw"), ("tokenized", "codes-1"))}
            if len({way.run(check=True)[1] for way in ways.values()}) != 1:
                raise SystemExit(f"{kind}: the batches are not the same")
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(args.rounds):
                for way, one in ways.items():
                    times[way].append(one.run()[0])
            ratios = [a / b for a, b in zip(times["on the fly"], times["tokenized"], strict=True)]
            medians = {way: statistics.median(t) for way, t in times.items()}
            print(f"  {kind:6}" + "".join(f"  {way} {1 / m:8.1f} samples/CPU-s" for way, m in medians.items()) +
                  f"   ratio {statistics.median(ratios):6.1f} ({min(ratios):.1f} to {max(ratios):.1f})", flush=True)
        pictures(recipe)


if __name__ == "__main__":
    main()
