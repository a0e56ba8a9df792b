"""A researcher's own part, named in a recipe as `module:Class` (tokenizer, router, objective, sampler).

The module must be importable (installed, or on PYTHONPATH). Importing it runs its code: load recipes from people you trust.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def load_part(name: str, base: type | None = None) -> type:
    """The class that `name` = "module:Class" stands for, checked against `base`: a class to inherit from, or a Protocol to offer.

    ValueError saying which half of the name is wrong, or which methods of the Protocol are missing.
    """
    module_name, class_name = _import(name)
    part = getattr(import_module(module_name), class_name, None)
    if not inspect.isclass(part):
        raise ValueError(f"part {name!r}: {module_name} has no class {class_name}{_near(module_name, class_name, inspect.isclass)}")
    if base is not None:
        _check(name, part, base)
    return part


def load_function(name: str) -> Callable:
    """The callable that `name` = "module:function" stands for. ValueError saying which half of the name is wrong."""
    module_name, function_name = _import(name)
    part = getattr(import_module(module_name), function_name, None)
    if not callable(part):
        raise ValueError(f"part {name!r}: {module_name} has no function {function_name}{_near(module_name, function_name, callable)}")
    return part


def _import(name: str) -> tuple[str, str]:
    """Both halves of the name, when the module can be imported."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"part {name!r} must be written module:Class or module:function, for example my_package.routers:TopOneRouter")
    module_name, _, class_name = name.partition(":")
    try:
        import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ValueError(f"part {name!r}: there is no module {error.name}; install it or put its folder on PYTHONPATH") from None
        raise ValueError(f"part {name!r}: importing {module_name} failed: {error}") from error
    except Exception as error:
        raise ValueError(f"part {name!r}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    return module_name, class_name


def _near(module_name: str, wanted: str, kind: Callable[[object], bool]) -> str:
    there = [key for key, value in vars(import_module(module_name)).items() if kind(value)]
    near = get_close_matches(wanted, there, n=1, cutoff=0.0)
    return f"; did you mean {near[0]}?" if near else ""


def _check(name: str, part: type, base: type) -> None:
    if not getattr(base, "_is_protocol", False):
        if not issubclass(part, base):
            raise ValueError(f"part {name!r} must inherit from {base.__module__}.{base.__qualname__}")
        return
    # data may be set in __init__, so only methods can be asked of a class
    asked = {key for kind in base.__mro__ if getattr(kind, "_is_protocol", False)
             for key, value in vars(kind).items() if not key.startswith("_") and callable(value)}
    missing = sorted(key for key in asked if not hasattr(part, key))
    if missing:
        raise ValueError(f"part {name!r} must offer {', '.join(missing)} to be a {base.__module__}.{base.__qualname__}")
