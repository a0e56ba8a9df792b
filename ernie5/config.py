"""Recipes: YAML <-> a tree of frozen dataclasses.

    defaults of the dataclasses  <  the file named by `base:`  <  the recipe  <  `key.sub=value` from the command line

Keys and types are strict; a mistake is reported with file, line, the nearest known key and the way out. `to_yaml` writes the
resolved tree, which reads back as the same tree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ernie5.config_build import build
from ernie5.config_yaml import ConfigError, Located, Raw, locate, merge, put, read_yaml

__all__ = ["ConfigError", "check_unchanged", "diff", "fingerprint", "load_config", "override", "to_plain", "to_yaml"]

T = TypeVar("T")

_UNQUOTED = re.compile(r"[A-Za-z_]([\w./:-]*[\w/])?", re.ASCII)
_READ_AS_OTHER = ("true", "false", "null", "inf", "yes", "no", "on", "off", "y", "n")


def load_config(cls: type[T], source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> T:
    """The dataclass `cls` from a YAML file or a dict, with `key.sub=value` overrides on top. ConfigError (a ValueError) for any mistake."""
    located = _with_base(locate(source, "dict"), Path(), ()) if isinstance(source, Mapping) else _read(Path(source), ())
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise ConfigError(f"command line: {text!r} must be written key.sub=value")
        new = read_yaml(value, f"command line ({text[:80]})", has_lines=False)
        empty = isinstance(new.value, dict) and not new.value and not value.strip()
        located = put(located, key.strip().split("."), Located(Raw(""), new.where) if empty else new)
    return build(cls, located)


def to_plain(config: Any) -> Any:
    """Dataclasses as dicts, tuples as lists: what YAML and JSON can hold."""
    if is_dataclass(config):
        return {f.name: to_plain(getattr(config, f.name)) for f in fields(config) if f.init}
    if isinstance(config, Mapping):
        return {key: to_plain(value) for key, value in config.items()}
    return [to_plain(value) for value in config] if isinstance(config, (tuple, list)) else config


def to_yaml(config: Any) -> str:
    """The resolved config as YAML, in the order of the fields; `load_config` reads the same config back."""
    return yaml.dump(to_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def fingerprint(config: Any) -> str:
    """32 hex digits that are equal exactly when the configs are (`lr: 1` and `lr: 1.0` are the same float)."""
    same_types = build(type(config), locate(to_plain(config), "config"))
    return blake2b(json.dumps(to_plain(same_types), sort_keys=True).encode(), digest_size=16).hexdigest()


def diff(a: Any, b: Any) -> list[str]:
    """What differs, one line a dotted key: `model.dim: 64 -> 128`."""
    return [f"{key}: {old} -> {new}" for key, (old, new) in _differences(a, b).items()]


def check_unchanged(saved: Any, now: Any, may_change: Sequence[str]) -> None:
    """On resume: ConfigError listing the differences outside `may_change`: dotted keys (`log` covers all below it) or patterns (`*.lr`)."""
    changed = [f"{key}: {old} -> {new}" for key, (old, new) in _differences(saved, now).items()
               if not any(fnmatchcase(key, pattern) or key.startswith(f"{pattern}.") for pattern in may_change)]
    if changed:
        raise ConfigError("the recipe differs from the one this run was started with:\n  " + "\n  ".join(changed)
                          + f"\nput them back or start a new run; what may change on resume: {', '.join(may_change) or 'nothing'}")


def override(config: T, key: str, value: Any) -> T:
    """The config with another value at the dotted `key`, type-checked; `value` is a Python value, dataclasses included."""
    where = f"override of {key}"
    return build(type(config), put(locate(to_plain(config), where), key.split("."), locate(to_plain(value), where)))


def _read(path: Path, above: tuple[Path, ...]) -> Located:
    """A file merged over its `base:` chain."""
    resolved = path.resolve()
    if resolved in above:
        raise ConfigError(f"{path}: `base:` goes round in a circle: {' -> '.join(str(p) for p in (*above, resolved))}")
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        names = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        near = get_close_matches(path.name, names, n=3, cutoff=0.4)
        raise ConfigError(f"{path}: no such file" + (f"; did you mean {', '.join(near)}?" if near else "")) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    return _with_base(read_yaml(text, str(path)), path.parent, (*above, resolved))


def _with_base(located: Located, folder: Path, above: tuple[Path, ...]) -> Located:
    if not isinstance(located.value, dict) or "base" not in located.value:
        return located
    named = located.value["base"]
    name = named.value.text if isinstance(named.value, Raw) else named.value
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{named.where}: base must be the name of a file, relative to this one")
    own = Located({key: item for key, item in located.value.items() if key != "base"}, located.where)
    return merge(_read(folder / name, above), own)


def _differences(a: Any, b: Any) -> dict[str, tuple[str, str]]:
    old, new = dict(_leaves(to_plain(a), "")), dict(_leaves(to_plain(b), ""))
    keys = [*old, *(key for key in new if key not in old)]
    return {key: (_show(old, key), _show(new, key)) for key in keys if key not in old or key not in new or old[key] != new[key]}


def _leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    pairs = [pair for key, item in items for pair in _leaves(item, f"{path}.{key}" if path else str(key))]
    return pairs or [(path, value)]


def _show(leaves: dict[str, Any], key: str) -> str:
    return repr(leaves[key]) if key in leaves else "(absent)"


class _Dumper(yaml.SafeDumper):
    """Quotes every text that could be read as something else, shares no nodes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = _UNQUOTED.fullmatch(text) and text.lower() not in _READ_AS_OTHER
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)
