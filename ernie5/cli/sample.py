"""`ernie5 sample RUN_DIR "a small red circle" --to image --out x.png`: let a trained model write, draw, film or sound."""

from __future__ import annotations

import argparse
from pathlib import Path

from ernie5.cli.parsing import Subparsers, add_command, check_run

SUFFIXES = {"image": (".png", ".jpg", ".jpeg"), "video": (".mp4",), "audio": (".wav", ".flac"), "text": (".txt",)}
DESCRIPTION = """Generates from a prompt of text, an image, a clip, a sound, or several of them.

  ernie5 sample runs/tiny_cpu "a small red circle" --to image --out x.png
  ernie5 sample runs/tiny_cpu "a blue square moves left" --to video --out x.mp4
  ernie5 sample runs/tiny_cpu --image x.png --to text
  ernie5 sample runs/voices "good morning" --to audio --speaker me.npy"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    form = "RUN_DIR[@STEP] [PROMPT] --to WHAT [--out FILE] …"
    parser = add_command(subparsers, "sample", form, "generate text, an image, a clip or a sound", DESCRIPTION, run)
    parser.add_argument("run_dir", metavar="RUN_DIR[@STEP]", help="folder of a trained run")
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what to make, in words")
    for medium in ("image", "video", "audio"):
        parser.add_argument(f"--{medium}", type=Path, metavar="FILE", help=f"show the model this {medium}")
    parser.add_argument("--speaker", type=Path, metavar="FILE", help="who speaks: a vector (.npy), or a recording if the run can hear it")
    parser.add_argument("--to", required=True, choices=SUFFIXES, metavar="WHAT", help="text, image, video or audio")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: sample.png, .mp4 or .wav)")
    parser.add_argument("--guidance", type=float, metavar="G", help="how strongly to follow the prompt, 1 = as trained")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 = always the likeliest")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another number, another sample (default 0)")


def run(args: argparse.Namespace) -> int:
    """Print the text, or the path of the file written."""
    media = {"--image": args.image, "--video": args.video, "--audio": args.audio}
    if args.prompt is None and not any(media.values()):
        raise ValueError('nothing to start from; give a prompt in quotes ("a small red circle"), --image, --video or --audio')
    if args.speaker is not None and args.to != "audio":
        raise ValueError(f"--speaker {args.speaker} says who speaks in a generated sound; use --to audio, or leave it out")
    for option, path in (media | {"--speaker": args.speaker}).items():
        if path is not None and not path.is_file():
            raise ValueError(f"{option} {path}: no such file")
    check_run(args.run_dir)
    out = args.out or (Path(f"sample{SUFFIXES[args.to][0]}") if args.to != "text" else None)
    if out is not None and out.suffix.lower() not in SUFFIXES[args.to]:
        raise ValueError(f"--out {out} must end in {' or '.join(SUFFIXES[args.to])} for --to {args.to}")
    if args.temperature is not None and args.temperature < 0:
        raise ValueError(f"--temperature {args.temperature} must be at least 0; 0 takes the likeliest, 1 samples as trained")
    from ernie5.train.sample import sample_run

    result = sample_run(Path(args.run_dir), args.prompt, image=args.image, video=args.video, audio=args.audio, to=args.to, out=out,
                        guidance=args.guidance, temperature=args.temperature, seed=args.seed, speaker=args.speaker)
    print(result)
    return 0
