"""Everything a report tells, read from the run folder. A file that is missing or damaged costs its part of the report, never the report.

`notes` says in plain sentences what could not be read. Ours.
Letters: L layers, R kinds of positions, E experts.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ernie5.analysis.routing_study import RoutingStudy
from ernie5.run.checkpoint import Checkpoint, CheckpointError, latest_checkpoint
from ernie5.run.ended import ended_step
from ernie5.run.folder import RunFolder
from ernie5.run.metrics_log import MetricsLog
from ernie5.sequence import Kind

KINDS = ("image", "video", "audio")
DIRECTIONS = tuple(row for kind in KINDS for row in (f"text_to_{kind}", f"{kind}_to_text"))


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it; what is missing is empty or None."""

    folder: RunFolder
    recipe: dict[str, Any]
    recipe_text: str
    metrics: list[dict[str, Any]]
    evaluation: dict[str, Any]                  # eval.json
    evaluated: dict[int, dict[str, Any]]        # step -> the same, while training
    checkpoint_step: int | None
    ended_step: int | None                      # ended.json: the data gave no step after this one
    parameters: tuple[int, int] | None          # all, active per token
    router_load: np.ndarray | None              # L R E
    routing: RoutingStudy | None                # routing.json
    surface: dict[str, Any]                     # elastic.json
    samples: dict[str, list[dict[str, Any]]]    # text_to_image … -> rows
    quarantine: list[dict[str, Any]]
    code: str                                   # version and commit
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(dig(self.recipe, "run.name") or self.folder.path.resolve().name)

    @property
    def step(self) -> int:
        """Steps done."""
        return max(self.metrics[-1]["step"] if self.metrics else 0, self.checkpoint_step or 0)

    def series(self, key: str) -> np.ndarray:
        """The values of a metric, one a step in `metrics`; nan where it is missing."""
        return np.array([value if (value := number(m.get(key))) is not None else np.nan for m in self.metrics])


def read_run(path: Path) -> RunRecord:
    """Read what is there. ValueError when `path` is no folder."""
    folder = RunFolder(Path(path))
    if not folder.path.is_dir():
        raise ValueError(f"{path} is no folder; name the folder of a run, for example runs/tiny_cpu")
    notes: list[str] = []
    recipe_text = _read_text(folder.recipe, notes)
    recipe = _recipe(recipe_text, notes)
    saved = _checkpoint(folder, notes)
    return RunRecord(
        folder, recipe, recipe_text,
        metrics=MetricsLog(folder.metrics).read(),
        evaluation=_dict(_json(folder.path / "eval.json", notes)),
        evaluated=_evaluated(folder, notes),
        checkpoint_step=saved.step if saved else None,
        ended_step=ended_step(folder),
        parameters=_parameters(saved, recipe) if saved else None,
        router_load=_router_load(saved) if saved else None,
        routing=_routing(folder, notes),
        surface=_dict(_json(folder.path / "elastic.json", notes)),
        samples={name: _dicts(_json(folder.samples / f"{name}.json", notes)) for name in DIRECTIONS},
        quarantine=[_dict(_parse(line)) for line in _read_text(folder.logs / "quarantine.jsonl", notes).splitlines()],
        code="\n".join(_read_text(folder.code, notes).splitlines()[:2]),
        notes=notes,
    )


def dig(tree: Any, path: str) -> Any:
    """`dig(recipe, "model.num_layers")`; None where there is no such key."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _read_text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        notes.append(f"{path.name} cannot be read: {error.strerror}.")
        return ""


def _json(path: Path, notes: list[str]) -> Any:
    content = _read_text(path, notes)
    value = _parse(content)
    if content and value is None:
        notes.append(f"{path.name} is damaged: it is not JSON.")
    return value


def _parse(content: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _recipe(content: str, notes: list[str]) -> dict[str, Any]:
    try:
        return _dict(yaml.safe_load(content))
    except yaml.YAMLError:
        notes.append("recipe.yaml is damaged: it is not YAML.")
        return {}


def _evaluated(folder: RunFolder, notes: list[str]) -> dict[int, dict[str, Any]]:
    found = {int(match[1]): path for path in folder.samples.glob("eval-*.json") if (match := re.fullmatch(r"eval-(\d+)", path.stem))}
    return {step: _dict(_json(found[step], notes)) for step in sorted(found)}


def _checkpoint(folder: RunFolder, notes: list[str]) -> Checkpoint | None:
    try:
        return latest_checkpoint(folder.checkpoints)
    except CheckpointError as error:
        notes.append(f"No checkpoint can be read: {error}.")
        return None


def _parameters(saved: Checkpoint, recipe: dict[str, Any]) -> tuple[int, int] | None:
    """(all, active per token): a token leaves out the experts that were not chosen."""
    shapes = {name: shape for name, shape in saved.shapes.items() if name.startswith("model.") and not name.endswith("balance_bias")}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total, experts = sum(sizes.values()), sum(size for name, size in sizes.items() if ".experts." in name)
    top_k, num_experts = number(dig(recipe, "model.top_k")), number(dig(recipe, "model.num_experts"))
    if not total or not top_k or not num_experts:
        return None
    return total, total - round(experts * (1 - top_k / num_experts))


def _router_load(saved: Checkpoint) -> np.ndarray | None:
    shape = saved.shapes.get("router_load", ())
    if len(shape) != 3 or shape[1] != len(Kind):
        return None
    return saved.read("router_load").double().numpy()  # L R E


def _routing(folder: RunFolder, notes: list[str]) -> RoutingStudy | None:
    written = _json(folder.path / "routing.json", notes)
    if written is None:
        return None
    try:
        return RoutingStudy.from_json(written)
    except ValueError as error:
        notes.append(f"{error}.")
        return None
