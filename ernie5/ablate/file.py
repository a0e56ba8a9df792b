"""The file of an ablation: which recipe to start from, what varies, and the seeds. Every value keeps its file and line.

    base: tiny_cpu.yaml                        a recipe beside this file, a shipped recipe's name, RUN_DIR or RUN_DIR@STEP
    axes:
      model.top_k: [1, 2, 4]                   a key with its values
      elastic: {off: {}, depth: {elastic.depth.probability: 0.25}}      a name, and for every label the keys that it changes
    seeds: [0, 1, 2]
    train: {steps: 800, threads: 1}            any other key is a key of the recipe, for all runs

`name`, `dir`, `title` and `about` are optional; title and about default to the comment at the head of the file. Ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path

from ernie5.config_build import convert
from ernie5.config_yaml import ConfigError, Located, Raw, read_yaml
from ernie5.recipe import Recipe

OWN = ("name", "dir", "title", "about", "base", "axes", "seeds")
SET_ELSEWHERE = {"run.name": "`name:`", "run.dir": "`dir:` or --out", "run.seed": "`seeds:`"}
_HEADER = re.compile(r"(command|hardware|time|expect):")
_MAX_LABEL = 60


@dataclass(frozen=True)
class Change:
    """One key of a recipe and its new value."""

    key: str
    value: Located


@dataclass(frozen=True)
class Choice:
    """One point of an axis: how tables call it, how folders call it, and what it changes."""

    label: str
    slug: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Axis:
    """What varies, and its choices in the order of the file."""

    name: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class AblationFile:
    """The file as written; `settings` are the recipe's keys in it."""

    path: Path
    name: str
    dir: str
    title: str
    about: str
    base: Located
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    settings: Located


def read_ablation(path: Path) -> AblationFile:
    """Read it. ConfigError naming file, line, key and way out for whatever it cannot mean."""
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    whole = read_yaml(content, str(path))
    if not isinstance(whole.value, dict):
        raise ConfigError(f"{path}: an ablation is a map with the keys base, axes and seeds")
    own = {key: item for key, item in whole.value.items() if key in OWN}
    rest = {key: item for key, item in whole.value.items() if key not in OWN}
    _check_keys(rest)
    if "base" not in own:
        raise ConfigError(f"{path}: base must be given: the recipe or the run that all variants start from")
    if "axes" not in own:
        raise ConfigError(f"{path}: axes must be given: what varies, for example model.top_k: [1, 2]")
    title, about = _comment(content)
    texts = {key: str(convert(str, own[key], key)) for key in ("name", "dir", "title", "about") if key in own}
    name = texts.get("name", path.stem)
    if _slug(name) != name:
        raise ConfigError(f"{own['name'].where if 'name' in own else path}: name = {name} must be one word; a folder is called so")
    title = title.removeprefix(f"{name}: ") or name
    return AblationFile(
        path=path, name=name, dir=texts.get("dir", f"runs/ablations/{name}"),
        title=texts.get("title", title), about=texts.get("about", about),
        base=own["base"], axes=tuple(_axes(own["axes"])), seeds=_seeds(own.get("seeds")), settings=Located(rest, whole.where),
    )


def _check_keys(rest: dict[str, Located]) -> None:
    known = [*OWN, *(f.name for f in fields(Recipe))]
    for key, item in rest.items():
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{item.where}: unknown key {key}; did you mean {near}? known here: {', '.join(known)}")
    run = rest.get("run")
    for key, item in (run.value.items() if run and isinstance(run.value, dict) else ()):
        _check_settable(f"run.{key}", item)


def _check_settable(key: str, item: Located) -> None:
    if key == "run":
        raise ConfigError(f"{item.where}: run must be given with its key, for example run.start_load")
    if key in SET_ELSEWHERE:
        raise ConfigError(f"{item.where}: {key} differs from run to run; give {SET_ELSEWHERE[key]} instead")


def _seeds(located: Located | None) -> tuple[int, ...]:
    if located is None:
        return (0,)
    seeds: tuple[int, ...] = convert(tuple[int, ...], located, "seeds")
    if not seeds:
        raise ConfigError(f"{located.where}: seeds is empty; give at least one, for example seeds: [0, 1, 2]")
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise ConfigError(f"{located.where}: seeds names {twice} twice; a seed can only be run once")
    return seeds


def _axes(located: Located) -> Iterator[Axis]:
    if not isinstance(located.value, dict) or not located.value:
        raise ConfigError(f"{located.where}: axes must be a map with at least one axis, for example model.top_k: [1, 2]")
    lists = [name for name, item in located.value.items() if isinstance(item.value, list)]
    setters: dict[tuple[str, ...], str] = {}
    for name, item in located.value.items():
        axis = Axis(name, tuple(_listed(name, item, lists) if isinstance(item.value, list) else _named(name, item)))
        if not axis.choices:
            raise ConfigError(f"{item.where}: the axis {name} is empty; give its values, for example {name}: [1, 2]")
        seen: dict[str, Choice] = {}
        for choice in axis.choices:
            if choice.slug in seen:
                raise ConfigError(f"{item.where}: the axis {name} has two variants called {choice.slug}; write it as a map of labels and "
                                  f"give each its own")
            seen[choice.slug] = choice
        keys = {tuple(change.key.split(".")): change for choice in axis.choices for change in choice.changes}
        for key, change in keys.items():
            clash = next((other for other in setters if other[: len(key)] == key or key[: len(other)] == other), None)
            if clash is not None:
                raise ConfigError(f"{change.value.where}: the axes {setters[clash]} and {name} both set {change.key}; "
                                  "make them one axis")
        setters |= dict.fromkeys(keys, name)
        yield axis


def _listed(key: str, located: Located, lists: list[str]) -> Iterator[Choice]:
    """`model.top_k: [1, 2]`"""
    short = _short(key, lists)
    assert isinstance(located.value, list)
    for item in located.value:
        label = _text(item, key)
        yield Choice(label, _slug(f"{short}={label}"), (_change(key, item),))


def _named(name: str, located: Located) -> Iterator[Choice]:
    """`elastic: {off: {}, depth: {elastic.depth.probability: 0.25}}`"""
    if not isinstance(located.value, dict):
        raise ConfigError(f"{located.where}: the axis {name} must be a list of values ({name}: [1, 2]), or a map of labels with the keys "
                          f"that each of them changes ({name}: {{off: {{}}, on: {{elastic.depth.probability: 0.25}}}})")
    for label, item in located.value.items():
        empty = item.value == Raw("")
        if not isinstance(item.value, dict) and not empty:
            raise ConfigError(f"{item.where}: {name}.{label} must be a map of the recipe's keys and their values, for example "
                              f"{{train.balance_speed: 0}}; {{}} changes nothing")
        if not _slug(label):
            raise ConfigError(f"{item.where}: a label of the axis {name} needs at least one letter or digit, not {label!r}")
        changes = item.value.items() if isinstance(item.value, dict) else ()
        yield Choice(label, _slug(label), tuple(_change(key, value) for key, value in changes))


def _change(key: str, value: Located) -> Change:
    if not all(key.split(".")):
        raise ConfigError(f"{value.where}: {key!r} is no key of a recipe; write it with dots, for example model.top_k")
    _check_settable(key, value)
    return Change(key, value)


def _text(item: Located, key: str) -> str:
    if isinstance(item.value, dict):
        raise ConfigError(f"{item.where}: a value of the axis {key} is a map; give it a label: name: {{label: {{{key}: …}}, …}}")
    if isinstance(item.value, list):
        return ",".join(_text(part, key) for part in item.value) or "none"
    written = item.value.text if isinstance(item.value, Raw) else str(item.value)
    return written.rpartition(":")[2] or "none"  # module:Class is called Class


def _short(key: str, keys: list[str]) -> str:
    """The end of a dotted key that no other axis ends with."""
    parts = key.split(".")
    ends = (".".join(parts[-n:]) for n in range(1, len(parts)))
    return next((end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1), key)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.,+=-]+", "-", text).strip("-.")[:_MAX_LABEL]


def _comment(content: str) -> tuple[str, str]:
    """Title and text of the comment at the head of a file, without what a recipe's header says about its cost."""
    lines = [line.lstrip("#").strip() for line in takewhile(lambda line: line.startswith("#"), content.splitlines())]
    told = [line for line in lines if not _HEADER.match(line)]
    return (told[0], " ".join(filter(None, told[1:]))) if told else ("", "")
