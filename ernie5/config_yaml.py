"""Text -> located values: YAML where every value still knows its file and line, and a bound on how big it may grow.

A scalar stays the text it was (`Raw`), because only the field it is meant for can say what `1e-4`, `no` or `010` is; YAML 1.1 would read
a string, a boolean and an octal number. Used by config.py. No YAML tag is obeyed, so nothing is ever constructed or run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

MAX_TEXT_BYTES = 2**20
MAX_VALUES = 20_000
MAX_DEPTH = 32
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "map", "seq", "timestamp", "value")}


class ConfigError(ValueError):
    """Something in a recipe is wrong; the message says where, what and how to put it right."""


@dataclass(frozen=True)
class Raw:
    """An unquoted scalar, as written."""

    text: str


@dataclass(frozen=True)
class Located:
    """A value and where it was written (`recipe.yaml:12`, `command line`)."""

    value: dict[str, Located] | list[Located] | Raw | str | int | float | bool | None
    where: str


@dataclass
class _Reader:
    name: str
    has_lines: bool = True
    num_values: int = field(default=0)

    def read(self, node: yaml.Node, depth: int = 0) -> Located:
        where = f"{self.name}:{node.start_mark.line + 1}" if self.has_lines else self.name
        self.num_values += 1
        if self.num_values > MAX_VALUES or depth > MAX_DEPTH:
            raise ConfigError(f"{where}: more than {MAX_VALUES} values or {MAX_DEPTH} levels (aliases count where they are used)")
        if node.tag not in _PLAIN_TAGS:
            raise ConfigError(f"{where}: {node.tag.removeprefix('tag:yaml.org,2002:')!r} is not allowed; use plain values, lists and maps")
        if isinstance(node, yaml.ScalarNode):
            return Located(Raw(node.value) if node.style is None else node.value, where)
        if isinstance(node, yaml.SequenceNode):
            return Located([self.read(item, depth + 1) for item in node.value], where)
        assert isinstance(node, yaml.MappingNode)
        items: dict[str, Located] = {}
        for key, item in node.value:
            line = f"{self.name}:{key.start_mark.line + 1}" if self.has_lines else self.name
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{line}: a key must be a word")
            if key.tag == "tag:yaml.org,2002:merge":
                raise ConfigError(f"{line}: '<<' is not allowed; put shared values in a file of their own and name it with `base:`")
            if key.value in items:
                raise ConfigError(f"{line}: duplicate key {key.value!r}, first given at {items[key.value].where}; remove one of them")
            value = self.read(item, depth + 1)
            items[key.value] = Located(value.value, line)
        return Located(items, where)


def read_yaml(text: str, name: str, has_lines: bool = True) -> Located:
    """Parse one YAML document. ConfigError with file and line for bad syntax, tags, duplicate keys, merge keys and bombs."""
    if len(text) > MAX_TEXT_BYTES:
        raise ConfigError(f"{name}: {len(text)} characters, more than any recipe ({MAX_TEXT_BYTES})")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark and has_lines else ""
        raise ConfigError(f"{name}{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{name}: not valid YAML: {'nested too deep' if isinstance(error, RecursionError) else error}") from None
    return Located({}, name) if node is None else _Reader(name, has_lines).read(node)


def locate(value: object, where: str) -> Located:
    """The same for values that come from Python (a dict instead of a file)."""
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise ConfigError(f"{where}: key {wrong!r} must be a string")
        return Located({key: locate(item, where) for key, item in value.items()}, where)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return Located([locate(item, where) for item in value], where)
    if value is None or isinstance(value, (str, int, float, bool)):
        return Located(value, where)
    raise ConfigError(f"{where}: a {type(value).__name__} cannot stand in a recipe")


def merge(old: Located | None, new: Located) -> Located:
    """`new` over `old`: maps key by key, everything else as a whole."""
    if old is None or not isinstance(old.value, dict) or not isinstance(new.value, dict):
        return new
    merged = {**old.value, **{key: merge(old.value.get(key), item) for key, item in new.value.items()}}
    return Located(merged, new.where)


def put(old: Located, keys: Sequence[str], new: Located) -> Located:
    """`old` with `new` at the dotted place `keys`; numbers index lists, missing maps are made."""
    if not keys:
        return merge(old, new)
    first, rest = keys[0], keys[1:]
    empty = Located({}, new.where)
    if isinstance(old.value, list):
        if not first.isdecimal() or int(first) >= len(old.value):
            raise ConfigError(f"{new.where}: {first!r} is not an index into a list of {len(old.value)}")
        items = list(old.value)
        items[int(first)] = put(items[int(first)], rest, new)
        return Located(items, old.where)
    items_by_key = old.value if isinstance(old.value, dict) else {}
    return Located({**items_by_key, first: put(items_by_key.get(first, empty), rest, new)}, old.where)
