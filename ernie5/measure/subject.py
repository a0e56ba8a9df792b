"""Which tokenizers are measured, and on what: a run folder, the folder of one tokenizer, or a researcher's own class.

    RUN_DIR                       all three, on the held-out sources of its recipe
    RUN_DIR/tokenizers/vision     one, recognised by its files; the run around it says sizes and held-out sources
    FOLDER with `part`            `module:Class`, made by `Class.load(FOLDER)`
Ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.recipe import Recipe, RunConfig
from ernie5.run.folder import RunFolder
from ernie5.run.parts import load_part
from ernie5.train.load import load_recipe
from ernie5.train.prepare import OURS, load_tokenizers, missing_tokenizers, parts_folder, placed

KINDS = ("vision", "audio", "text")


@dataclass(frozen=True)
class Subject:
    """Tokenizers by kind, and the run that they come from, if any."""

    path: Path
    tokenizers: dict[str, Any]
    recipe: Recipe | None

    def heldout(self) -> dict[str, SourceConfig]:
        """The held-out sources of the run, empty where there is none."""
        return self._sources("heldout")

    def training(self) -> dict[str, SourceConfig]:
        """What the run trains on."""
        return self._sources("sources")

    def _sources(self, which: str) -> dict[str, SourceConfig]:
        if self.recipe is None:
            return {}
        named = {name: placed(self.recipe, source) for name, source in getattr(self.recipe.data, which).items()}
        demo = parts_folder(self.recipe).data / "demo"
        return {name: source for name, source in named.items() if demo.is_dir() or not Path(source.path).is_relative_to(demo)}


def find_subject(path: str, kind: str | None = None, part: str | None = None) -> Subject:
    """Load what `path` holds, of one `kind` or of all. ValueError when it holds no tokenizer."""
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"{path}: no such folder; name a run folder, or the folder of a tokenizer such as runs/tiny_cpu/tokenizers/vision")
    if part is not None:
        if kind is None:
            raise ValueError(f"--part {part} does not say what it encodes; add --kind vision, audio or text")
        own: Any = load_part(part)
        return Subject(folder, {kind: own.load(folder)}, None)
    if (folder / "tokenizers").is_dir() or (folder / "recipe.yaml").is_file():
        return _of_run(folder, kind)
    found = kind_of(folder)
    if kind not in (None, found):
        raise ValueError(f"{path} holds a tokenizer of {found}, not of {kind}; leave --kind out")
    around = folder.parent.parent
    recipe = _recipe(around) if folder.parent.name == "tokenizers" else None
    return Subject(folder, {found: _ours(found, folder)}, recipe)


def kind_of(folder: Path) -> str:
    """`text`, `vision` or `audio`, by the files that their `save` writes."""
    if (folder / "text.json").is_file():
        return "text"
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{folder} holds no tokenizer: neither text.json nor a readable config.json; for a class of your own add "
                         "--part module:Class --kind vision, audio or text") from None
    return "vision" if stored.get("kind") == "vision" else "audio"


def _ours(kind: str, folder: Path) -> Any:
    tokenizer: Any = OURS[kind]
    return tokenizer.load(folder)


def _of_run(folder: Path, kind: str | None) -> Subject:
    recipe = _recipe(folder)
    kinds = (kind,) if kind else KINDS
    if not missing_tokenizers(recipe):
        loaded = load_tokenizers(recipe)
        return Subject(folder, {k: getattr(loaded, k) for k in kinds}, recipe)
    there = parts_folder(recipe).tokenizers
    tokenizers = {k: _ours(k, there / k) for k in kinds if (there / k).is_dir()}
    if not tokenizers:
        raise ValueError(f"{there} holds no tokenizer of {' or '.join(kinds)}; train with ernie5 tokenizer train RECIPE run.dir={folder}")
    return Subject(folder, tokenizers, recipe)


def _recipe(folder: Path) -> Recipe:
    """That of the run; a folder where only tokenizers were trained has none, and its held-out sources are those of the demo world."""
    if (folder / "recipe.yaml").is_file():
        return load_recipe(RunFolder(folder))
    return replace(Recipe(), run=RunConfig(dir=str(folder)))
