"""A trained vision tokenizer on photographs that it never saw: error after every scale, JPEG at the same bits, use of bits, clips, sharing.

    python docs/benchmarks/photographs.py photos                                       train and held-out pictures
    ernie5 data pack photos/train shards/photographs;  ernie5 data pack photos/heldout shards/heldout
    ernie5 tokenizer train recipes/tokenizers/vision_tiny.yaml --only vision
    OMP_NUM_THREADS=1 python docs/benchmarks/vision_tokenizer.py runs/vision_tiny/tokenizers/vision photos/heldout

JPEG: the highest quality whose scan fits into the tokenizer's bits, else its cheapest (marked); headers and tables are not counted, and
the tables are made for each picture. A bit is in use when its entropy over all held-out cells is 0.8 or more. Clips are pans over the
pictures. Sharing: bits' statistics counted on large grids alone, then used for small ones, by side and by cell (scales.py).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from io import BytesIO
from math import log10
from pathlib import Path
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ernie5.tokenizers.vision.generation import VisionGenerationTokenizer, to_float
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer, down


def pixels_of(image: Image.Image) -> Tensor:
    """uint8 `1 3 h w`."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]


def psnr(found: Tensor, wanted: Tensor) -> float:
    """In dB, of 8-bit pixels."""
    return 10 * log10(255**2 / max(1e-9, (found.float() - wanted.float()).square().mean().item()))


def jpeg(image: Image.Image, bits: int) -> tuple[float, int, bool]:
    """PSNR and scan bits of the best JPEG within `bits`, or of the cheapest; whether it fits."""
    best: tuple[float, int, bool] | None = None
    for quality in range(1, 60):
        file = BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
        data, at = file.getvalue(), 2
        while data[at + 1] != 0xDA:
            at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
        cost = 8 * (len(data) - at - 2)
        if best is not None and cost > bits:
            break
        found = psnr(pixels_of(Image.open(BytesIO(data))), pixels_of(image))
        if best is None or found > best[0]:
            best = (found, cost, cost <= bits)
    assert best
    return best


@torch.no_grad()
def pictures(tokenizer: VisionGenerationTokenizer, files: list[Path]) -> None:
    """Table of pictures, means after every scale, use of bits."""
    rows, ones, cells = [], 0.0, 0
    print(f"{'picture':14} {'bpp':>6} {'ours':>6} {'JPEG':>6} {'bpp':>6}")
    for file in files:
        image = Image.open(file).convert("RGB")
        pixels = pixels_of(image)
        latent = tokenizer.encode(pixels).latent
        codes, total, after = tokenizer.quantizer.encode(latent), torch.zeros_like(latent), []
        for scale, bits in enumerate(codes.bits):
            total = tokenizer.quantizer.add(total, bits, scale)
            after.append(psnr(tokenizer.decode(total), pixels))
        num_bits, area = sum(bits.numel() for bits in codes.bits), pixels.shape[-1] * pixels.shape[-2]
        theirs, cost, fits = jpeg(image, num_bits)
        print(f"{file.stem:14} {num_bits / area:6.3f} {after[-1]:6.2f} {theirs:6.2f} {cost / area:6.3f}{'' if fits else ' (more)'}")
        rows.append((after, theirs, num_bits / area, cost / area, psnr(tokenizer.decode(latent), pixels)))
        ones = ones + torch.stack([bits.mean((0, 1)) for bits in codes.bits])  # pictures of one size: K d
        cells += 1
    p = (ones / cells).clamp(1e-6, 1 - 1e-6)
    entropy = -(p * p.log2() + (1 - p) * (1 - p).log2())
    many = entropy[1:]  # one cell a picture says little about the first scale
    print(f"mean           {mean(r[2] for r in rows):6.3f} {mean(r[0][-1] for r in rows):6.2f} {mean(r[1] for r in rows):6.2f} "
          f"{mean(r[3] for r in rows):6.3f};  decoder alone (not quantized): {mean(r[4] for r in rows):.2f}")
    print("after 1, 2, … scales: " + " ".join(f"{mean(r[0][k] for r in rows):.2f}" for k in range(len(rows[0][0]))))
    print(f"bits in use: {(many >= 0.8).float().mean():.3f} of {many.numel()} (all scales: {(entropy >= 0.8).float().mean():.3f}); "
          "normalised entropy by scale: " + " ".join(f"{e:.3f}" for e in entropy.mean(1)))


def pan(file: Path, frames: int, size: int) -> Tensor:
    """A moving and slowly nearing view of a picture: uint8 `t 3 size size`."""
    pixels, views = pixels_of(Image.open(file)).float(), []
    height, width = pixels.shape[-2:]
    for frame in range(frames):
        side = round(min(height, width) * (0.8 - 0.2 * frame / frames))
        x, y = ((length - side) * frame // frames for length in (width, height))
        views.append(F.interpolate(pixels[..., y:y + side, x:x + side], (size, size), mode="bilinear", antialias=True))
    return torch.cat(views).round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def clips(tokenizer: VisionGenerationTokenizer, files: list[Path]) -> None:
    """Pieces against the whole, the past against the future, quality of frames."""
    quality, latent_error, flipped, changed = [], 0.0, 0, False
    for file in files:
        clip = pan(file, 17, 128)
        whole = tokenizer.encode(clip).latent
        total = tokenizer.quantizer.encode(whole).total
        decoded = tokenizer.decode(total)
        quality.append([psnr(decoded[t], clip[t]) for t in range(17)])
        for size in (1, 3, 4, 9):
            pieces = torch.cat([codes.latent for codes in tokenizer.encode_chunks(clip.split(size))])
            latent_error = max(latent_error, (pieces - whole).abs().max().item())
            ours, theirs = (tokenizer.quantizer.encode(latent).bits for latent in (pieces, whole))
            flipped += sum(int((a != b).sum()) for a, b in zip(ours, theirs, strict=True))
            pixels = torch.cat(list(tokenizer.decode_chunks(total.split(size))))
            assert (pixels.int() - decoded.int()).abs().max() <= 1
        other = clip.clone()
        other[9:] = 255 - other[9:]
        changed |= not torch.equal(tokenizer.encode(other).latent[:3], whole[:3])
    frames = torch.tensor(quality).mean(0)
    print(f"clips of 17 frames, {len(files)} pans: PSNR of frame 1, of frames 5 9 13 17, of the others: {frames[0]:.2f} "
          f"{frames[4::4].mean():.2f} {frames[[t for t in range(17) if t % 4]].mean():.2f}")
    print(f"pieces of 1, 3, 4, 9 frames against the whole: latents differ by {latent_error:.1e} at most, {flipped} bits in all; "
          f"earlier codes {'CHANGE' if changed else 'do not change'} with later frames")


@torch.no_grad()
def sharing(tokenizer: VisionGenerationTokenizer, files: list[Path]) -> None:
    """Latent error of small grids with their own statistics, and with those of large grids by side and by cell."""
    bits, stride = tokenizer.quantizer.bits, tokenizer.stride
    pixels = torch.cat([pixels_of(Image.open(file)) for file in files])
    large = min(pixels.shape[-2:]) // stride
    latents = {}
    for cells in (large // 4, large // 2, large):
        tiles = pixels.unfold(2, cells * stride, cells * stride).unfold(3, cells * stride, cells * stride)
        tiles = tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        latents[cells] = torch.cat([tokenizer.autoencoder.encode(to_float(part)[:, None])[:, 0] for part in tiles.split(16)])
    rows = tokenizer.config.num_scales
    for cells, latent in latents.items():
        found = []
        for share, counted in (("side", latent), ("side", latents[large]), ("cell", latents[large])):
            quantizer = MultiscaleResidualQuantizer(rows, bits, replace(tokenizer.config.scales, share=share))
            for _ in range(30):
                quantizer.quantize(counted)
            found.append((latent - quantizer.encode(latent).total).square().mean().item())
        own, side, cell = found
        print(f"grid {cells} x {cells}: latent error with its own statistics {own:.4f}, with those of {large} x {large} by "
              f"side {side:.4f}, by cell {cell:.4f}")
    for cells, latent in latents.items():
        total, sizes, values = torch.zeros_like(latent), tokenizer.quantizer.scales(cells, cells), []
        quantizer = MultiscaleResidualQuantizer(rows, bits, tokenizer.config.scales)
        for _ in range(30):
            quantizer.quantize(latent)
        for scale, size in enumerate(sizes):
            residual = down(latent - total, size)
            values.append(residual.abs().mean().item())
            total = quantizer.add(total, quantizer.encode(latent).bits[scale], scale)
        print(f"grid {cells} x {cells}: mean size of residuals by scale: " + " ".join(f"{v:.3f}" for v in values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("pictures", type=Path, help="a folder of pictures of one size, sides multiples of the stride")
    parser.add_argument("--only", choices=("pictures", "clips", "sharing"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = VisionGenerationTokenizer.load(arguments.tokenizer)
    files = sorted(path for path in arguments.pictures.iterdir() if path.suffix in (".png", ".jpg"))
    for name, part in (("pictures", pictures), ("clips", clips), ("sharing", sharing)):
        if arguments.only in (None, name):
            part(tokenizer, files)


if __name__ == "__main__":
    main()
