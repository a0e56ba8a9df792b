"""What it costs to encode pictures of many sizes: all in one pack, one batch per size, and one dense mask over the pack.

    python docs/benchmarks/patch_packing.py [--pictures 24] [--sides 6 40] [--dim 128] [--layers 4]

Prints processor seconds of forward and backward (the least of three) and how far tokens and gradients are apart. Sides are even numbers of
patches of 8 pixels, drawn evenly in their logarithms.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from ernie5.data_pipelines.collate import PackedSample, Widths, collate
from ernie5.sequence import Kind, TokenGroups, UnderstandBatch, UnderstandRead
from ernie5.tokenizers.vision import understanding
from ernie5.tokenizers.vision.frame_attention import FrameBuckets, FrameMask
from ernie5.tokenizers.vision.understanding import Pack, UnderstandingConfig, UnderstandingEncoder

FEATURES = 64


def pictures(number: int, sides: tuple[int, int], pack: bool) -> tuple[UnderstandBatch, ...]:
    random, blocks = np.random.default_rng(0), []
    low, high = np.log(np.array(sides) / 2)
    for h, w in (2 * np.exp(random.uniform(low, high, (number, 2))).round().astype(int)).tolist():
        pixels = torch.from_numpy(random.integers(0, 256, (1, 3, 8 * h, 8 * w), np.uint8))
        read = UnderstandRead(pixels, torch.from_numpy(random.standard_normal((1, FEATURES, h, w), np.float32)))
        size = h * w // 4
        blocks.append(TokenGroups(0, Kind.IMAGE_UNDERSTAND, torch.zeros(size, dtype=torch.int64), torch.zeros(size, 3), understand=read))
    sample = PackedSample("pictures", blocks)
    return collate([[sample]], len(sample), Widths(8, 2, FEATURES, 8, pack)).understand


def run(encoder: UnderstandingEncoder, batches: tuple[UnderstandBatch, ...]) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Seconds, tokens in the order of positions, gradient of the first layer."""
    best = float("inf")
    for _ in range(3):
        encoder.zero_grad()
        begin = time.process_time()
        tokens = [encoder(batch) for batch in batches]
        sum(t.square().sum() for t in tokens).backward()
        best = min(best, time.process_time() - begin)
    order = torch.cat([batch.positions for batch in batches]).argsort()
    return best, torch.cat(tokens).detach()[order], encoder.layers[0].qkv.weight.grad.clone()


def attention_alone(lengths: tuple[int, ...]) -> dict[str, float]:
    """Seconds of forward and backward of one layer's attention, 2 heads of 64."""
    q, k, v = (torch.randn(sum(lengths), 2, 64, requires_grad=True) for _ in range(3))
    buckets, ends = FrameBuckets.of(lengths, torch.device("cpu")), torch.tensor([0, *np.cumsum(lengths)])

    def nested() -> torch.Tensor:
        jagged = (torch.nested.nested_tensor_from_jagged(x, ends).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(*jagged).transpose(1, 2).values()

    seconds = {}
    for name, attend in (("buckets", lambda: buckets.attend(q, k, v)), ("nested tensors", nested)):
        seconds[name] = float("inf")
        for _ in range(3):
            begin = time.process_time()
            attend().sum().backward()
            seconds[name] = min(seconds[name], time.process_time() - begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--sides", type=int, nargs=2, default=(6, 40))
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--no-dense", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    config = replace(UnderstandingConfig(), dim=args.dim, num_layers=args.layers, num_heads=args.dim // 64)
    encoder = UnderstandingEncoder(config, FEATURES, 256)
    packed, by_size = (pictures(args.pictures, tuple(args.sides), pack) for pack in (True, False))
    lengths = tuple(size.height * size.width for size in packed[0].sizes)
    buckets = FrameBuckets.of(lengths, torch.device("cpu")).buckets
    print(f"{len(lengths)} pictures of {len(by_size)} sizes, {sum(lengths)} patches, {len(buckets)} buckets, "
          f"{100 * sum(b.index.numel() for b in buckets) / sum(lengths) - 100:.1f} % padding in attention alone")
    seconds, tokens, gradient = run(encoder, packed)
    print(f"one pack          {seconds:7.3f} s")
    ways = {"one batch a size": (by_size, Pack.of)}
    if not args.no_dense:
        ways["dense mask"] = (packed, partial(Pack.of, attention=FrameMask.of))
    for name, (batches, of) in ways.items():
        with mock.patch.object(understanding.Pack, "of", staticmethod(of)):
            other, same, slope = run(encoder, batches)
        print(f"{name:18}{other:7.3f} s   tokens apart {float((same - tokens).abs().max()):.1e}, gradient "
              f"{float((slope - gradient).abs().max() / gradient.abs().max()):.1e} of its largest")
    print("attention alone:", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in attention_alone(lengths).items()))


if __name__ == "__main__":
    main()
