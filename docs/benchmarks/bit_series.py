"""What a decoder makes of the first bits, trained for a series of widths and not: PSNR and what the judge reads, on held-out pictures.

    python docs/benchmarks/bit_series.py RUN_DIR [IMAGE_STEPS ...]     RUN_DIR: any run with a demo world, e.g. of recipes/bits_cpu.yaml

Two tokenizers of 16 bits for every number of steps, same seed and batches: one whose decoder always reads all bits, one that draws 8 or 16.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.synthetic.judge import score
from ernie5.run.folder import RunFolder
from ernie5.sequence import Modality
from ernie5.tokenizers.vision.bit_series import first_bits
from ernie5.tokenizers.vision.generation import VisionGenerationTokenizer
from ernie5.tokenizers.vision.train import train_vision_tokenizer
from ernie5.train.evaluate_media import judge_all, judged_samples, wanted
from ernie5.train.load import load_recipe
from ernie5.train.prepare import media_of, open_sources, open_training_sources

WIDTHS = (4, 8, 12, 16)


def main(run: Path, steps: list[int]) -> None:
    recipe = load_recipe(RunFolder(run).open())
    quarantine = Quarantine(run / "logs" / "quarantine.jsonl", 0.01)
    images = list(media_of(open_training_sources(recipe, quarantine), {Modality.IMAGE}, 4096))
    held_out = judged_samples(open_sources(recipe, recipe.data.heldout, quarantine), "image", 256)
    media, truth = [s.segments[1].media for s in held_out], [wanted(s) for s in held_out]
    print(f"{'steps':>6}  {'decoder for':14}" + "".join(f"{f'{w} bits':>22}" for w in WIDTHS))
    for num in steps:
        for series in ((), (8, 16)):
            config = replace(recipe.tokenizers.vision, image_steps=num, bit_series=series)
            tokenizer = train_vision_tokenizer(config, images, [], seed=0)
            told = [look(tokenizer, media, truth, width) for width in WIDTHS]
            print(f"{num:>6}  {str(list(series) or [16]):14}" + "".join(f"{psnr:>10.2f} dB {joint:>8.3f}" for psnr, joint in told))


def look(tokenizer: VisionGenerationTokenizer, media: list, truth: list, width: int) -> tuple[float, float]:
    """Mean PSNR in dB, and the share of pictures of which all attributes are read."""
    totals = [tokenizer.quantizer.encode(tokenizer.encode(m).latent).total for m in media]
    shown = [tokenizer.decode(first_bits(total, width)) for total in totals]
    errors = torch.stack([(a.float() - b.float()).square().mean() for a, b in zip(shown, media, strict=True)])
    return float((10 * torch.log10(255.0**2 / errors)).mean()), score(judge_all("image", shown), truth)["accuracy"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or [350])
