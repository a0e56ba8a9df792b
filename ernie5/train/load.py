"""Open a trained run for use: its model and tokenizers, ready to generate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ernie5.config import load_config
from ernie5.generate.generator import Generator
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.shards import WeightsOnly, model_tensors
from ernie5.parallel.world import World
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import Checkpoint
from ernie5.run.folder import RunFolder
from ernie5.train.assemble import build_generator, build_model, vocabulary_of
from ernie5.train.checkpoints import find_checkpoint, find_run
from ernie5.train.prepare import load_tokenizers


def load_recipe(folder: RunFolder) -> Recipe:
    """The recipe of a run, with `run.dir` where the folder lies now."""
    recipe = load_config(Recipe, folder.recipe)
    return replace(recipe, run=replace(recipe.run, dir=str(folder.path)))


def load_run(spec: str | Path, device: str = "auto") -> tuple[Recipe, UnifiedTransformer, Generator, Checkpoint]:
    """`RUN_DIR` or `RUN_DIR@STEP` -> recipe, model in eval mode, generator, checkpoint."""
    folder, _ = find_run(spec)
    recipe = load_recipe(folder)
    saved = find_checkpoint(spec)
    tokenizers = load_tokenizers(recipe)
    model = build_model(recipe, vocabulary_of(recipe, tokenizers))
    model.load_state_dict(model_tensors({name: saved.read(name) for name in WeightsOnly(saved).shapes}))
    model = model.to(World.join(device).device).eval()
    return recipe, model, build_generator(recipe, tokenizers, model, recipe.train.bits_at(saved.step)), saved
