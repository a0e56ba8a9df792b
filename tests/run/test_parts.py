"""`module:Class` finds the class or says which half is wrong."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Protocol

import pytest

from ernie5.run.parts import load_part


class Router(Protocol):
    top_k: int

    def choose(self, scores: list[float]) -> int: ...

    def update(self) -> None: ...


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_parts.py").write_text(
        "class Full:\n    def __init__(self): self.top_k = 1\n    def choose(self, scores): return 0\n    def update(self): pass\n"
        "class Half:\n    def choose(self, scores): return 0\n"
        "not_a_class = 5\n")
    (tmp_path / "broken_part.py").write_text("1 / 0\n")
    (tmp_path / "needs_more.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_it_loads(package: Path) -> None:
    assert load_part("my_parts:Full", Router).__name__ == "Full"
    assert load_part("collections:OrderedDict", dict) is OrderedDict
    assert load_part("my_parts:Half").__name__ == "Half"


@pytest.mark.parametrize(("name", "base", "says"), [
    ("my_parts.Full", None, "must be written module:Class"), ("my_parts:Full.x", None, "must be written"),
    ("../x:Full", None, "must be written"), (":Full", None, "must be written"), ("my_parts:", None, "must be written"),
    ("my parts:A", None, "must be written"),
    ("no_such_part:Full", None, "there is no module no_such_part; install it or put its folder on PYTHONPATH"),
    ("my_parts.deeper:Full", None, "there is no module my_parts.deeper"),
    ("my_parts:Ful", None, "my_parts has no class Ful; did you mean Full?"), ("my_parts:not_a_class", None, "has no class not_a_class"),
    ("broken_part:A", None, "importing broken_part failed: ZeroDivisionError"),
    ("needs_more:A", None, "importing needs_more failed: No module named 'a_module_that_is_not_there'"),
    ("my_parts:Full", dict, "must inherit from builtins.dict"), ("my_parts:Half", Router, "must offer update to be a"),
])
def test_mistakes(package: Path, name: str, base: type | None, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        load_part(name, base)
    assert says in str(caught.value) and name in str(caught.value)
