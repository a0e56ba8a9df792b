"""What the commands share: help that fits a screen, `key=value` arguments, suggestions for typing errors."""

from __future__ import annotations

import argparse
import difflib
import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Run = Callable[[argparse.Namespace], int]
Subparsers = argparse._SubParsersAction


class Help(argparse.RawDescriptionHelpFormatter):
    """Prose is wrapped to the terminal, paragraphs with indented lines (examples) stay as they are."""

    def __init__(self, prog: str) -> None:
        self.columns = max(40, min(100, shutil.get_terminal_size((80, 24)).columns - 1))
        super().__init__(prog, max_help_position=26, width=self.columns)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(p if "\n " in p or p.startswith(" ") else textwrap.fill(" ".join(p.split()), self.columns) for p in paragraphs)


def command_line(prog: str, form: str, description: str) -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    usage = f"{prog} {form}"
    return _with_help(argparse.ArgumentParser(prog=prog, usage=usage, description=description, formatter_class=Help, add_help=False))


def add_subparsers(parser: argparse.ArgumentParser) -> Subparsers:
    """Where the commands of `parser` are added; `list_commands` shows them in its help."""
    return parser.add_subparsers(prog=parser.prog, required=True, metavar="COMMAND", help=argparse.SUPPRESS)


def add_command(
    subparsers: Subparsers, name: str, form: str, summary: str, description: str, run: Run | None = None
) -> argparse.ArgumentParser:
    """A command `NAME FORM` that calls `run`; `summary` stands in the list of commands, `description` in its own `--help`."""
    prog = f"{subparsers._prog_prefix} {name}"
    usage = f"{prog} {form}".strip()
    parser = subparsers.add_parser(
        name, prog=prog, usage=usage, help=summary, description=description, formatter_class=Help, add_help=False)
    parser.set_defaults(path=prog)
    if run is not None:
        parser.set_defaults(run=run)
    return _with_help(parser)


def list_commands(parser: argparse.ArgumentParser, subparsers: Subparsers) -> None:
    """Put one line for each command under the description of `parser`."""
    lines = [f"  {action.dest:11}{action.help}" for action in subparsers._choices_actions]
    parser.description = "\n".join([f"{parser.description}\n\ncommands:", *lines])


def add_overrides(parser: argparse.ArgumentParser, example: str = "train.steps=100") -> None:
    """`key=value …` after the other arguments, collected in `args.overrides`."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"replaces a setting, for example {example}")


def check_run(word: str) -> None:
    """ValueError unless `word` is `RUN_DIR` or `RUN_DIR@STEP` with a folder that is there."""
    if Path(word).is_dir():
        return
    folder, at, step = word.rpartition("@")
    if at and not step.isdecimal():
        raise ValueError(f"{word}: what follows @ must be the step of a checkpoint, for example {folder}@1000")
    if not Path(folder if at else word).is_dir():
        raise ValueError(f"{folder if at else word}: no such run folder; ernie5 train tiny_cpu makes one")


def check_words(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """ValueError that names the nearest for the first command or option that `parser`, or the command that its words lead to, does not
    know. Where a command is missing: its help, and SystemExit 2. Missing arguments and wrong values are left to argparse.
    """
    commands = next((action.choices for action in parser._actions if isinstance(action, Subparsers)), None)
    for number, word in enumerate(words):
        if word == "--":
            return
        if _is_option(word):
            _check_option(parser, word.partition("=")[0], word)
        elif commands is not None:
            if word not in commands:
                raise ValueError(f"{parser.prog} has no command {word!r}{nearest(word, commands)}; see {parser.prog} --help")
            return check_words(commands[word], words[number + 1 :])
    if commands is not None and not words:
        parser.print_help()
        raise SystemExit(2)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing when no known word is near. The dashes of options do not count; the same letters in another order
    are nearest.
    """
    bare, typed = {other.lstrip("-"): other for other in known}, word.lstrip("-")
    found = difflib.get_close_matches(typed, list(bare), n=3, cutoff=0.5)
    found.sort(key=lambda other: sorted(other) != sorted(typed))
    return f"; did you mean {bare[found[0]]!r}?" if found else ""


def _is_option(word: str) -> bool:
    """As argparse sees it: not `-`, a negative number, or a sentence."""
    return word.startswith("-") and len(word) > 1 and not word[1].isdigit() and word[1] != "." and " " not in word


def _check_option(parser: argparse.ArgumentParser, name: str, word: str) -> None:
    known = list(parser._option_string_actions)
    if not any(option.startswith(name) for option in known):  # argparse takes abbreviations
        raise ValueError(f"{parser.prog} does not know {word!r}{nearest(name, known)}; see {parser.prog} --help")


def _with_help(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """`--help` itself needs no line in the help."""
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    parser._positionals.title, parser._optionals.title = "arguments", "options"
    return parser
