"""`ernie5 COMMAND …`: finds the command, runs it, and turns a user's mistake into one clear message.

Commands import what they need when they run, so `--help` and typing errors answer at once.
Exit codes: 0 done · 2 a mistake, explained · 75 stopped but saved, run it again · 130 interrupted · 1 anything else (with a traceback).
A rank of `ernie5 launch` (ERNIE5_LAUNCHED=1) is silent about its end: the launcher knows which rank failed first, and says that one.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ernie5 import __version__
from ernie5.cli import ablate, analyze, data, evaluate, export, launch, plan, recipes, resume, sample, tokenizer, train
from ernie5.cli.parsing import add_subparsers, check_words, command_line, list_commands
from ernie5.run.failure import EXIT_CRASHED, EXIT_INTERRUPTED, EXIT_MISTAKE, Failure
from ernie5.run.signals import EXIT_STOPPED

COMMANDS = (train, launch, resume, plan, ablate, sample, evaluate, export, analyze, data, tokenizer, recipes)

DESCRIPTION = "ERNIE 5.0 in plain PyTorch: one sparse model for text, images, video and audio."
EPILOG = """first steps:
  ernie5 recipes list
  ernie5 train tiny_cpu
  ernie5 sample RUN_DIR "a small red circle" --to image --out x.png

`ernie5 COMMAND --help` tells more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name; default: this process's own) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0].startswith(("--local_rank=", "--local-rank=")):  # the DeepSpeed launcher also says it in the environment
        os.environ.setdefault("LOCAL_RANK", words.pop(0).partition("=")[2])
    try:
        args = parse(words)
        return args.run(args)
    except BrokenPipeError:  # `ernie5 recipes list | head`: the reader has gone, and Python must not complain when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CRASHED
    except (KeyboardInterrupt, Exception) as error:
        failure = Failure.of(error)
        failure.note()
        if os.environ.get("ERNIE5_LAUNCHED") == "1":
            return failure.code
        if os.environ.get("ERNIE5_DEBUG") == "1" or failure.code not in (EXIT_MISTAKE, EXIT_INTERRUPTED, EXIT_STOPPED):
            raise
        print(f"ernie5: {failure.message}", file=sys.stderr)
        return failure.code


def parse(words: list[str]) -> argparse.Namespace:
    """The arguments of one command. SystemExit 0 after help, 2 after a mistake that argparse explains; ValueError for the others."""
    parser = command_line("ernie5", "COMMAND …", DESCRIPTION)
    parser.epilog = EPILOG
    parser.add_argument("--version", action="version", version=f"ernie5 {__version__}", help=argparse.SUPPRESS)
    subparsers = add_subparsers(parser)
    for command in COMMANDS:
        command.add_parser(subparsers)
    list_commands(parser, subparsers)
    check_words(parser, words)
    args, rest = parser.parse_known_args(words)
    strangers = [word for word in rest if word.startswith("-") or not hasattr(args, "overrides")]
    if strangers:
        raise ValueError(f"{args.path} does not know {strangers[0]!r}; see {args.path} --help")
    if hasattr(args, "overrides"):  # argparse stops collecting them at the first option; key=value may stand anywhere
        args.overrides += rest
        for word in args.overrides:
            if "=" not in word[1:]:
                raise ValueError(f"{word!r} is no key=value, for example train.steps=100; see {args.path} --help")
    return args

