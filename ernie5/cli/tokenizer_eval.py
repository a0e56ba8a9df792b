"""`ernie5 tokenizer eval TOKENIZER_OR_RUN [MEDIA]`: how much a tokenizer loses, at which rate, beside plain methods at the same rate."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ernie5.cli.parsing import Subparsers, add_command

if TYPE_CHECKING:
    from ernie5.data_pipelines.media_limits import VisionSize

EVAL = """Encodes and decodes media and measures what is left: PSNR, SSIM, log-mel, SI-SDR, rates, use of codes, speed; after every scale,
bit width and level; beside JPEG, WebP, PCA, H.264, Opus and MP3 at the same rate. Writes tokenizer_eval.json and tokenizer_eval.html.

  ernie5 tokenizer eval runs/tiny_cpu                              all three, on the run's held-out media
  ernie5 tokenizer eval runs/tiny_cpu/tokenizers/vision photos --size native
  ernie5 tokenizer eval weights --part my.codecs:Codec --kind audio recordings"""


def add_action(actions: Subparsers) -> None:
    """Declare the action of `ernie5 tokenizer`."""
    parser = add_command(actions, "eval", "TOKENIZER [MEDIA] [--out DIR] …", "measure tokenizers, with baselines and a page", EVAL, run)
    parser.add_argument("tokenizer", metavar="TOKENIZER", help="a run folder, or the folder of one tokenizer")
    parser.add_argument("media", nargs="?", metavar="MEDIA", help="a folder of files, a file or shards (default: the run's held-out media)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go (default: TOKENIZER)")
    parser.add_argument("--kind", choices=("vision", "audio", "text"), help="only this one")
    parser.add_argument("--part", metavar="M:CLASS", help="a class of your own, made by CLASS.load(TOKENIZER)")
    parser.add_argument("--at-most", type=int, default=64, metavar="N", help="media of a kind (default 64; ten times as many texts)")
    parser.add_argument("--size", metavar="N|HxW|native", help="pixels (default: the run's; native without a run)")
    parser.add_argument("--longest", type=int, default=512, metavar="N", help="native pictures are shrunk to N pixels a side (default 512)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of every sound of MEDIA (default 10)")
    parser.add_argument("--features", metavar="M:F", help="a function that gives features of pictures, for the Fréchet distance")
    parser.add_argument("--sound-features", metavar="M:F", help="the same for sounds")
    parser.add_argument("--fit", metavar="PATH", help="pictures to fit PCA on (default: the run's training media)")
    parser.add_argument("--no-baselines", action="store_true", help="the tokenizers alone")
    parser.add_argument("--device", default="cpu", help="where tokenizers run (default cpu)")


def run(args: argparse.Namespace) -> int:
    """Print the table; 0 when something was measured."""
    for option, value in (("--at-most", args.at_most), ("--longest", args.longest), ("--seconds", args.seconds)):
        if not value > 0:
            raise ValueError(f"{option} {value} must be above 0")
    size = read_size(args.size)
    from ernie5.measure.features import PICTURE_DEFAULT, SOUND_DEFAULT
    from ernie5.measure.page import write_page
    from ernie5.measure.run_eval import RESULT, EvalSettings, evaluate_tokenizers, write_result
    from ernie5.measure.subject import find_subject
    from ernie5.measure.table import table

    settings = EvalSettings(args.at_most, args.size == "native", size, args.longest, args.seconds, args.features or PICTURE_DEFAULT,
                            args.sound_features or SOUND_DEFAULT, not args.no_baselines, args.fit, args.device)
    subject = find_subject(args.tokenizer, args.kind, args.part)
    out = args.out or Path(args.tokenizer)
    media = args.media or "the held-out media of the run"
    print(f"{', '.join(subject.tokenizers)} of {subject.path}, on {media}; results go to {out}\n", flush=True)
    measured = evaluate_tokenizers(subject, args.media, settings)
    measured.result["command"] = command_of(args)
    write_result(measured, out)
    page = write_page(measured, out)
    print(table(measured.result))
    print(f"\n{out / RESULT}\n{page}")
    return 0


def command_of(args: argparse.Namespace) -> list[str]:
    """The words that measure the same again, for the page."""
    words = [*args.path.split(), args.tokenizer, *([args.media] if args.media else [])]
    for option, value, usual in (("--kind", args.kind, None), ("--part", args.part, None), ("--at-most", args.at_most, 64),
                                 ("--size", args.size, None), ("--longest", args.longest, 512), ("--seconds", args.seconds, 10.0),
                                 ("--features", args.features, None), ("--sound-features", args.sound_features, None),
                                 ("--fit", args.fit, None), ("--device", args.device, "cpu")):
        words += [option, str(value)] if value != usual else []
    return words + (["--no-baselines"] if args.no_baselines else [])


def read_size(word: str | None) -> VisionSize | None:
    """`256` or `256x384` -> height and width; None for `native` and when nothing was said."""
    from ernie5.data_pipelines.media_limits import VisionSize

    if word is None or word == "native":
        return None
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", word)
    if not found or int(found[1]) < 1 or int(found[2] or 1) < 1:
        raise ValueError(f"--size {word} must be a number of pixels, height x width, or native; for example 256, 256x384")
    return VisionSize(int(found[1]), int(found[2] or found[1]))
