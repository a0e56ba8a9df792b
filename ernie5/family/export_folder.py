"""The folder of an exported sub-model: a run like any other, written beside its place and moved there when complete.

    recipe.yaml  code.txt  tokenizers/  data/demo/  checkpoints/step-N/  model.safetensors  config.json

It depends on no other folder: tokenizers are copied, demo shards are hard links (or copies on another disk). Where it came from stands in
config.json, in the checkpoint's state and in code.txt. Ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ernie5.config import fingerprint, override, to_yaml
from ernie5.family.standalone import WEIGHTS, Sizes, write_model
from ernie5.model.config import ModelConfig
from ernie5.model.elastic import always_kept
from ernie5.model.elastic_space import AxisConfig, ElasticConfig
from ernie5.parallel.shards import model_tensors
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import Checkpoint, save_checkpoint
from ernie5.run.files import atomic_write, sync_folder
from ernie5.run.folder import RunFolder
from ernie5.train.prepare import OURS, parts_folder


def check_out(out: Path) -> None:
    """ValueError unless `out` is absent or an empty folder."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} is there already and is no empty folder; choose another OUT, nothing is overwritten")


def small_recipe(recipe: Recipe, model: ModelConfig, num_codebooks: int, out: Path) -> tuple[Recipe, list[str]]:
    """The recipe of the small run, and what else had to change in it, in words."""
    elastic, remarks = _smaller_space(recipe.elastic, model, num_codebooks)
    run = replace(recipe.run, name=out.resolve().name, dir=str(out), tokenizers=None, start_from=None)
    small = replace(recipe, run=run, model=model, elastic=elastic)
    small.model.check()
    small.elastic.check(small.model, num_codebooks)
    return small, remarks


def _smaller_space(elastic: ElasticConfig, model: ModelConfig, num_codebooks: int) -> tuple[ElasticConfig, list[str]]:
    """Every axis without the sizes that are no smaller than the model now; off where none is left."""
    fewest = len(always_kept(model.num_layers, num_codebooks))
    ranges = {"depth": (fewest, model.num_layers - 1), "width": (model.top_k, model.num_experts - 1), "sparsity": (1, model.top_k - 1)}
    remarks = []
    for name, (low, high) in ranges.items():
        axis: AxisConfig = getattr(elastic, name)
        left = tuple(size for size in axis.sizes if low <= size <= high)
        if left == axis.sizes:
            continue
        gone = ", ".join(str(size) for size in axis.sizes if size not in left)
        told = f"{', '.join(map(str, left))} stay" if left else f"nothing smaller is left, elastic.{name} is off now"
        remarks.append(f"elastic.{name}.sizes loses {gone}: {told}")
        elastic = override(elastic, name, AxisConfig(axis.probability if left else 0.0, left))
    return elastic, remarks


def publish(
    out: Path, recipe: Recipe, small: Recipe, sizes: Sizes, saved: Checkpoint, tensors: Mapping[str, Tensor], about: dict[str, Any]
) -> dict[str, int]:
    """Write all of the folder and give it its name; bytes of its parts. `recipe` is that of the full run. A failure leaves nothing."""
    final = out.resolve()
    half = final.with_name(f".{final.name}-half")
    shutil.rmtree(half, ignore_errors=True)
    try:
        folder = RunFolder(half).create()
        _copy_parts(recipe, folder)
        folder.write_recipe(to_yaml(small))
        folder.write_code()
        atomic_write(folder.code, folder.code.read_bytes() + f"exported from {about['from']}\n".encode())
        state = {**saved.state, "lineage": about["from"], "exported": about}
        step = save_checkpoint(folder.checkpoints, saved.step, tensors, state, run_id=small.run.name, fingerprint=fingerprint(small),
                               keep_last=small.train.keep_last)
        write_model(half, sizes, model_tensors(tensors), {"exported": about})
        parts = {WEIGHTS: half / WEIGHTS, f"checkpoints/{step.name}": step, "tokenizers": folder.tokenizers}
        num_bytes = {name: _bytes(path) for name, path in parts.items()}
        half.rename(final)  # onto an empty folder too
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    sync_folder(final.parent)
    return num_bytes


def _copy_parts(recipe: Recipe, folder: RunFolder) -> None:
    """Tokenizers, and the demo world where the recipe uses it."""
    source = parts_folder(recipe)
    for kind in OURS:
        if kind not in recipe.tokenizers.parts and kind not in recipe.tokenizers.services:
            shutil.copytree(source.tokenizers / kind, folder.tokenizers / kind)
    demo = source.data / "demo"
    if recipe.data.uses_demo and demo.is_dir():
        shutil.copytree(demo, folder.data / "demo", copy_function=_link)


def _link(source: str, target: str) -> None:
    """A hard link, a copy where the disk has none. Shards are replaced as a whole, never changed in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
