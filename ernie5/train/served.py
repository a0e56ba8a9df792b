"""Which tokenizers a folder holds, for whoever serves them: a run's, a folder of tokenizers, or one tokenizer's own folder. Ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ernie5.run.folder import RunFolder
from ernie5.run.parts import load_part
from ernie5.train.load import load_recipe
from ernie5.train.prepare import OURS, parts_folder


def open_tokenizers(place: Path, kinds: Sequence[str] | None = None) -> dict[str, Any]:
    """Tokenizers by kind; `kinds` None = all that are there. ValueError names what is missing."""
    if not place.is_dir():
        raise ValueError(f"{place}: no such folder; name a run folder, or a folder with {', '.join(OURS)} in it")
    makers = _of_run(RunFolder(place)) if RunFolder(place).recipe.exists() else _of_folder(place, kinds)
    wanted = list(dict.fromkeys(kinds)) if kinds else list(makers)
    for kind in wanted:
        if kind not in makers:
            raise ValueError(f"{place} holds no {kind} tokenizer" + (f", only {', '.join(makers)}" if makers else "; name a run whose "
                             "tokenizers are trained (ernie5 tokenizer train RECIPE)"))
    if not wanted:
        raise ValueError(f"{place} holds no tokenizers; name a run whose tokenizers are trained, or one tokenizer's folder with --kind")
    return {kind: _load(*makers[kind]) for kind in wanted}


def _load(part: Any, folder: str | Path) -> Any:
    return (load_part(part) if isinstance(part, str) else part).load(folder)


def _of_run(run: RunFolder) -> dict[str, tuple[Any, str | Path]]:
    """Class and folder by kind; what the run itself gets from services is left out."""
    recipe = load_recipe(run)
    folder, parts = parts_folder(recipe).tokenizers, recipe.tokenizers.parts
    found: dict[str, tuple[Any, str | Path]] = {kind: (part.part, part.folder) for kind, part in parts.items()}
    here = {kind: (ours, folder / kind) for kind, ours in OURS.items() if (folder / kind).is_dir()}
    return {kind: one for kind, one in (here | found).items() if kind not in recipe.tokenizers.services}


def _of_folder(place: Path, kinds: Sequence[str] | None) -> dict[str, tuple[Any, str | Path]]:
    inside: dict[str, tuple[Any, str | Path]] = {kind: (ours, place / kind) for kind, ours in OURS.items() if (place / kind).is_dir()}
    if not inside and kinds and len(kinds) == 1:
        return {kinds[0]: (OURS[kinds[0]], place)}
    return inside
