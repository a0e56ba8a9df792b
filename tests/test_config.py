"""Recipes: what is read, what is refused, and what the messages say."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from ernie5.config import ConfigError, check_unchanged, diff, fingerprint, load_config, override, to_plain, to_yaml


@dataclass(frozen=True)
class Stage:
    steps: int = 10
    bits: tuple[int, ...] = (4, 6)


@dataclass(frozen=True)
class Model:
    dim: int = 64
    num_layers: int = 4
    dropout: float = 0.0
    norm: Literal["rms", "layer"] = "rms"
    window: int | None = None

    def __post_init__(self) -> None:
        if self.dim % 2:
            raise ValueError(f"model.dim = {self.dim} must be even; use {self.dim + 1}")


@dataclass(frozen=True)
class Recipe:
    name: str = "tiny"
    model: Model = field(default_factory=Model)
    lr: float = 1e-3
    compile: bool = False
    mixture: dict[str, float] = field(default_factory=lambda: {"text": 1.0})
    stages: tuple[Stage, ...] = (Stage(),)
    grid: tuple[int, float] = (1, 2.0)
    paths: list[str] = field(default_factory=list)
    start: int | str | None = None
    teacher: Model | None = None


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_defaults_base_recipe_and_overrides(tmp_path: Path) -> None:
    write(tmp_path, "model: {dim: 32, num_layers: 2}\nmixture: {image: 2}\nlr: 1\n", "root.yaml")
    write(tmp_path, "base: root.yaml\nmodel:\n  num_layers: 3\n", "middle.yaml")
    (tmp_path / "sub").mkdir()
    path = write(tmp_path / "sub", "base: ../middle.yaml\nname: mine\nstages:\n  - steps: 1_000\n  - {bits: [1, 2, 3]}\n")
    recipe = load_config(Recipe, path, ["model.dropout=1e-1", "mixture.audio=3", "stages.1.steps=7", "teacher.dim=8", "compile=true"])
    assert recipe.model == Model(dim=32, num_layers=3, dropout=0.1)
    assert recipe.mixture == {"image": 2.0, "audio": 3.0}
    assert recipe.stages == (Stage(steps=1000), Stage(steps=7, bits=(1, 2, 3)))
    assert recipe.lr == 1.0 and isinstance(recipe.lr, float)
    assert recipe.teacher == Model(dim=8) and recipe.compile and recipe.name == "mine"


@pytest.mark.parametrize(("text", "value"), [
    ("lr: 1e-4", 1e-4), ("lr: 3e12", 3e12), ("lr: 1_000.5", 1000.5), ("lr: .5", 0.5), ("lr: -2", -2.0), ("lr: .inf", float("inf")),
    ("name: no", "no"), ("name: 010", "010"), ("name: 1e-4", "1e-4"), ("name: '7'", "7"), ("name: 2026-01-02", "2026-01-02"),
    ("start: 5", 5), ("start: '5'", "5"), ("start: five", "five"), ("start: null", None), ("start:", None), ("start: ~", None),
    ("compile: true", True), ("grid: [3, 1e3]", (3, 1000.0)), ("paths: []", []), ("paths: [a, 'b c']", ["a", "b c"]),
])
def test_values(tmp_path: Path, text: str, value: object) -> None:
    found = getattr(load_config(Recipe, write(tmp_path, text)), text.split(":")[0])
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "line", "says"), [
    ("lr: 1\nmodel:\n  num_layer: 3\n", 3, "unknown key model.num_layer; did you mean num_layers?"),
    ("stages:\n  - {step: 3}\n", 2, "unknown key stages[0].step; did you mean steps?"),
    ("model:\n  dim: 3.5\n", 2, "model.dim = 3.5 must be a whole number"),
    ("model:\n  dim: '64'\n", 2, "take the quotes away"),
    ("model:\n  dim: 64k\n", 2, "model.dim = 64k must be a whole number"),
    ("model:\n  norm: batch\n", 2, "model.norm = batch must be one of rms, layer"),
    ("model:\n  dim: 63\n", 1, "model.dim = 63 must be even; use 64"),
    ("model:\n", 1, "model = (nothing) must be a map of keys"),
    ("model: 5\n", 1, "model = 5 must be a map of keys"),
    ("compile: yes\n", 1, "compile = yes must be true or false (yes, no, on and off are not read)"),
    ("compile: 1\n", 1, "must be true or false"),
    ("lr: fast\n", 1, "lr = fast must be a number"),
    ("lr: .nan\n", 1, "must be a number"),
    ("name:\n", 1, "name = (nothing) must be a text; give a value or remove the line"),
    ("paths: a\n", 1, "paths = a must be a list"),
    ("grid: [1]\n", 1, "grid = a list must be a list of 2"),
    ("stages:\n  - steps: 1\n    bits: [1, x]\n", 3, "stages[0].bits[1] = x must be a whole number"),
    ("mixture:\n  text: a\n", 2, "mixture.text = a must be a number"),
    ("start: [1]\n", 1, "must be int or str or null"),
    ("teacher:\n  dims: 1\n", 2, "unknown key teacher.dims; did you mean dim?"),
    ("lr: 1\n\nlr: 2\n", 3, "duplicate key 'lr', first given at"),
    ("a: &x {dim: 2}\nmodel:\n  <<: *x\n", 3, "'<<' is not allowed"),
    ("name: !!python/object/apply:os.system ['touch canary']\n", 1, "is not allowed"),
    ("name: !!binary aGk=\n", 1, "'binary' is not allowed"),
    ("name: [a\nlr: 1\n", 2, "not valid YAML"),
    ("name: a\n---\nname: b\n", 2, "not valid YAML"),
    ("? [a]\n: 1\n", 1, "a key must be a word"),
    ("- a\n", 1, "the file = a list must be a map of keys"),
])
def test_mistakes_name_file_line_and_way_out(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, path)
    assert str(caught.value).startswith(f"{path}:{line}: ") and says in str(caught.value)


def test_nothing_in_a_file_is_ever_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for tag in ("!!python/object/apply:os.system ['touch canary']", "!!python/name:os.system",
                "!!python/object/new:os.system [touch canary]"):
        with pytest.raises(ConfigError):
            load_config(Recipe, write(tmp_path, f"name: {tag}\n"))
        with pytest.raises(ConfigError):
            load_config(Recipe, {}, [f"name={tag}"])
    assert not (tmp_path / "canary").exists()


def test_bombs_are_bounded(tmp_path: Path) -> None:
    aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    started = time.monotonic()
    for text in (aliases, "paths: &p [*p]\n", f"paths: {'[' * 100_000}", f"paths: {'[' * 200}{']' * 200}", f"name: {'x' * 2**21}"):
        with pytest.raises(ConfigError):
            load_config(Recipe, write(tmp_path, text))
    assert time.monotonic() - started < 5


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, "", "tiny.yaml")
    with pytest.raises(ConfigError, match="no such file; did you mean tiny.yaml"):
        load_config(Recipe, tmp_path / "tinny.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load_config(Recipe, tmp_path / "nowhere" / "tiny.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(Recipe, tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(Recipe, tmp_path / "latin.yaml")
    assert load_config(Recipe, tmp_path / "tiny.yaml") == Recipe()


def test_base_circle_and_bad_base(tmp_path: Path) -> None:
    write(tmp_path, "base: b.yaml\n", "a.yaml")
    write(tmp_path, "base: a.yaml\n", "b.yaml")
    with pytest.raises(ConfigError, match="circle"):
        load_config(Recipe, tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="base must be the name of a file"):
        load_config(Recipe, {"base": 5})


@pytest.mark.parametrize(("text", "says"), [
    ("model.dim", "must be written key.sub=value"), ("=3", "must be written"), ("model..dim=3", "must be written"),
    ("model.dims=3", "did you mean dim"), ("model.dim=abc", "command line (model.dim=abc): model.dim = abc must be a whole number"),
    ("stages.4.steps=1", "not an index into a list of 1"), ("name=", "must be a text"), ("base=x.yaml", "unknown key base"),
    ("name=[", "command line (name=[): not valid YAML"),
])
def test_override_mistakes(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Recipe, {"stages": [{"steps": 1}]}, [text])
    assert says in str(caught.value)


def test_dicts_from_python_are_checked_too() -> None:
    assert load_config(Recipe, {"lr": 1, "grid": (2, 3)}).grid == (2, 3.0)
    for wrong in ({"lr": "1"}, {"model": {"dim": True}}, {"name": 5}, {"lr": float("nan")}, {1: 2}, {"name": object()}, {"compile": 1}):
        with pytest.raises(ConfigError):
            load_config(Recipe, wrong)


AWKWARD = Recipe(name="no", lr=1e-7, mixture={"1e3": 0.1, "a b": 2e22, "true": 1.0, "é": float("inf")}, start="1e5", paths=[
    "", " x ", "null", "~", "5", "a: b", "# c", "line\nline", "\x85 tab\t",
    "module:Class", "'\"", "- x", "☃", "%", "@", "0x10", "{}", "=", "<<"],
    stages=(Stage(bits=()),), teacher=Model(window=3))


def test_to_yaml_reads_back_as_the_same_config(tmp_path: Path) -> None:
    for recipe in (Recipe(), AWKWARD):
        again = load_config(Recipe, write(tmp_path, to_yaml(recipe)))
        assert again == recipe and fingerprint(again) == fingerprint(recipe) and to_yaml(again) == to_yaml(recipe)
    assert to_yaml(Recipe()).startswith("name: tiny\nmodel:\n  dim: 64\n")


def test_fingerprint_and_diff() -> None:
    other = override(override(Recipe(), "model.dim", 128), "mixture", {"audio": 0.5})
    assert other.model.dim == 128 and Recipe().model.dim == 64
    assert diff(Recipe(), other) == ["model.dim: 64 -> 128", "mixture.audio: (absent) -> 0.5"]
    assert diff(Recipe(), Recipe()) == [] and fingerprint(Recipe()) != fingerprint(other)
    assert fingerprint(Recipe(lr=1)) == fingerprint(Recipe(lr=1.0))  # type: ignore[arg-type]
    prints = {fingerprint(override(Recipe(), "model.dim", dim)) for dim in range(2, 100, 2)}
    assert len(prints) == 49 and all(len(p) == 32 for p in prints)


def test_override_is_type_checked() -> None:
    assert override(Recipe(), "teacher", Model(dim=2)).teacher == Model(dim=2)
    assert override(Recipe(), "stages.0.steps", 3).stages == (Stage(steps=3),)
    for key, value in (("model.dim", "128"), ("model.dims", 1), ("model.dim", 3), ("stages.1.steps", 1)):
        with pytest.raises(ConfigError, match=f"override of {key}"):
            override(Recipe(), key, value)


@pytest.mark.parametrize(("key", "value", "allowed"), [
    ("model.dim", 128, False), ("model.norm", "layer", False), ("lr", 0.5, True), ("mixture.image", 1.0, True),
    ("stages.0.steps", 3, False), ("grid", [1, 5.0], True)])
def test_what_may_change_on_resume(key: str, value: object, allowed: bool) -> None:
    now = override(Recipe(), key, value)
    if allowed:
        check_unchanged(Recipe(), now, ("lr", "mixture.*", "grid"))
    else:
        with pytest.raises(ConfigError, match=rf"(?s){key}: .* -> .*may change on resume: lr, mixture"):
            check_unchanged(Recipe(), now, ("lr", "mixture.*", "grid"))


def test_missing_required_field() -> None:
    @dataclass(frozen=True)
    class Needs:
        path: str

    with pytest.raises(ConfigError, match="path must be given"):
        load_config(_global(Needs), {})


def _global(cls: type) -> type:
    globals()[cls.__name__] = cls
    return cls


def test_any_random_text_gives_a_config_or_a_config_error(tmp_path: Path) -> None:
    from ernie5.run.random_streams import stream

    words = ["name", "model", "dim", ": ", ":", "\n", "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "!!str ", "'", '"', "#", "1e-4", "\t",
             "%", "\x00", "é", "|", ">", "base", "?", "<<", "null", "---\n"]
    for i in range(400):
        rng = stream(0, "config fuzz", i)
        text = "".join(words[k] for k in rng.integers(0, len(words), rng.integers(1, 25)))
        try:
            load_config(Recipe, write(tmp_path, text))
        except ConfigError as error:
            assert str(tmp_path) in str(error) or "base" in str(error)  # noqa: PT017


def test_plain_is_json_like() -> None:
    assert to_plain(AWKWARD)["stages"] == [{"steps": 10, "bits": []}]
