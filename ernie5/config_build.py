"""Located values -> frozen dataclasses: the type of every field decides how its value is read, and errors say where it stands.

    int 1_000        float 1e-4, 3e12, inf        bool true / false only        str any text        Optional, Union, Literal
    tuple, list, dict[str, T], nested dataclasses

Used by config.py.
"""

from __future__ import annotations

import re
import types
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ernie5.config_yaml import ConfigError, Located, Raw

T = TypeVar("T")

_INT = re.compile(r"[-+]?\d+(_\d+)*", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+)(e[-+]?\d+)?|[-+]?\.?inf", re.ASCII | re.IGNORECASE)
_NULL = ("", "~", "null")
_WORDS = {"true": True, "false": False}


def build(cls: type[T], located: Located, path: str = "") -> T:
    """The dataclass `cls` from a map. ConfigError naming file and line, dotted key, value, rule and way out."""
    if not isinstance(located.value, dict):
        raise _error(located, path, "a map of keys", cls)
    short = getattr(cls, "written_short", None)  # a class may know a shorter way to write some of its keys
    if short is not None:
        located = Located(short(located.value), located.where)
    kinds, known = _kinds(cls), {f.name: f for f in fields(cls) if f.init}  # type: ignore[arg-type]
    for key, item in located.value.items():
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]}? known here: {', '.join(known)}" if near else "no keys are known here"
            raise ConfigError(f"{item.where}: unknown key {_join(path, key)}; {hint}")
    missing = [_join(path, name) for name, f in known.items()
               if name not in located.value and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise ConfigError(f"{located.where}: {', '.join(missing)} must be given; there is no default")
    values = {key: convert(kinds[key], item, _join(path, key)) for key, item in located.value.items()}
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{located.where}: {f'{path}: ' if path else ''}{error}") from error


def convert(kind: Any, located: Located, path: str) -> Any:
    """The value of one field of type `kind`."""
    origin, arguments, value = get_origin(kind), get_args(kind), located.value
    if is_dataclass(kind):
        return build(kind, located, path)  # type: ignore[arg-type]
    if kind is Any or kind is object:
        raise TypeError(f"{path}: config fields need a type that can be checked, not {kind}")
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, located, path)
    if origin is Literal:
        found = [option for option in arguments if _scalar(type(option), value) == (option,)]
        if not found:
            raise ConfigError(f"{located.where}: {path} = {_show(value)} must be one of {', '.join(map(str, arguments))}")
        return found[0]
    if origin in (tuple, list):
        return _convert_items(origin, arguments, located, path)
    if origin is dict:
        if arguments[0] is not str:
            raise TypeError(f"{path}: config maps have string keys, not {arguments[0]}")
        if not isinstance(value, dict):
            raise _error(located, path, "a map", kind)
        return {key: convert(arguments[1], item, _join(path, key)) for key, item in value.items()}
    return _convert_scalar(kind, located, path)


def _convert_scalar(kind: Any, located: Located, path: str) -> Any:
    if kind not in (int, float, bool, str, type(None)):
        raise TypeError(f"{path}: config fields cannot have the type {kind}")
    found = _scalar(kind, located.value)
    if not found:
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}[kind]
        raise _error(located, path, wanted, kind)
    return found[0]


def _convert_items(origin: type, arguments: tuple[Any, ...], located: Located, path: str) -> Any:
    value = located.value
    if not isinstance(value, list):
        raise _error(located, path, "a list", origin)
    if origin is list or arguments[-1] is Ellipsis:
        kinds = [arguments[0]] * len(value)
    elif len(arguments) != len(value):
        raise _error(located, path, f"a list of {len(arguments)}", origin)
    else:
        kinds = list(arguments)
    return origin(convert(kind, item, f"{path}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _convert_union(kinds: tuple[Any, ...], located: Located, path: str) -> Any:
    """The first member that fits; texts last, because any word is a text."""
    order = (type(None), bool, int, float)
    ranked = sorted(kinds, key=lambda kind: order.index(kind) if kind in order else 5 if kind is str else 4)
    errors = []
    for kind in ranked:
        try:
            return convert(kind, located, path)
        except ConfigError as error:
            errors.append((kind, error))
    structured = [error for kind, error in errors if kind not in (*order, str)]
    if len(structured) == 1 and isinstance(located.value, (dict, list)):
        raise structured[0]  # the one member that a map or list can be meant for says what is wrong inside it
    raise _error(located, path, " or ".join(_name(kind) for kind in kinds), None)


def _scalar(kind: type, value: Any) -> tuple[Any, ...]:
    """`(converted,)`, or `()` when the value does not fit the type. Texts of YAML are read, values of Python are only checked."""
    text = value.text if isinstance(value, Raw) else None
    if kind is type(None):
        return (None,) if value is None or text in _NULL else ()
    if kind is bool:
        return (_WORDS[text],) if text in _WORDS else (value,) if isinstance(value, bool) else ()
    if kind is int:
        if text is not None:
            return (int(text),) if len(text) < 1000 and _INT.fullmatch(text) else ()
        return (value,) if isinstance(value, int) and not isinstance(value, bool) else ()
    if kind is float:
        if text is not None:
            return (float(text.lower().replace(".inf", "inf")),) if _FLOAT.fullmatch(text) else ()
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
        return (float(value),) if number else ()
    if text is not None:
        return (text,) if text not in _NULL else ()
    return (value,) if isinstance(value, str) else ()


@cache
def _kinds(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _error(located: Located, path: str, wanted: str, kind: Any) -> ConfigError:
    value = located.value
    hint = ""
    if isinstance(value, Raw) and kind is bool:
        hint = " (yes, no, on and off are not read)"
    elif isinstance(value, str) and kind in (int, float, bool):
        hint = " (take the quotes away)"
    elif isinstance(value, Raw) and value.text in _NULL:
        hint = "; give a value or remove the line"
    return ConfigError(f"{located.where}: {path or 'the file'} = {_show(value)} must be {wanted}{hint}")


def _show(value: Any) -> str:
    if isinstance(value, Raw):
        return value.text[:80] or "(nothing)"
    if isinstance(value, (dict, list)):
        return "a map" if isinstance(value, dict) else "a list"
    return repr(value)[:80]


def _name(kind: Any) -> str:
    return "null" if kind is type(None) else getattr(kind, "__name__", str(kind)) if get_origin(kind) is None else str(kind)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
