"""What a run says before it starts: what will happen, how big it is, where everything goes."""

from __future__ import annotations

import logging

import torch

from ernie5.model.elastic_space import ElasticConfig
from ernie5.parallel.world import World
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import list_steps
from ernie5.run.folder import RunFolder
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.train.bit_growth import growth_words, unseen_widths
from ernie5.train.prepare import missing_tokenizers
from ernie5.train.steps import TrainConfig

log = logging.getLogger(__name__)


def first_screen(recipe: Recipe, folder: RunFolder, world: World) -> None:
    """Print it (rank 0)."""
    from ernie5.train.assemble import planned_size

    size = planned_size(recipe)
    model, steps = recipe.model, list_steps(folder.checkpoints)
    done = steps[-1] if steps else 0
    missing = missing_tokenizers(recipe)
    tokens = recipe.train.rows * recipe.train.length
    lines = [
        f"run        {folder.path}" + (f"  (going on after step {done})" if done else ""),
        f"model      {model.num_layers} layers x {model.num_experts} experts, top-{model.top_k}; "
        f"{size.total / 1e6:.1f} M parameters, {size.active / 1e6:.1f} M active per token",
        f"training   {recipe.train.steps} steps of {tokens:,} positions on {world.size} process(es), {world.device.type}, "
        f"{torch.get_num_threads()} threads",
        *growth_lines(recipe.train, recipe.tokenizers.vision),
        *elastic_lines(recipe.elastic),
        f"tokenizers {'all there' if not missing else 'to train first: ' + ', '.join(missing)}",
        *(f"           {kind} served at {', '.join(map(str, recipe.tokenizers.addresses(kind)))}" for kind in recipe.tokenizers.services),
        f"data       {', '.join(recipe.data.sources)}" + ("  (demo world)" if recipe.data.uses_demo else ""),
        f"then       evaluation and {folder.report}" if recipe.evaluate.at_end else f"then       {folder.report}",
    ]
    for line in lines:
        log.info("%s", line)


def growth_lines(train: TrainConfig, vision: VisionTokenizerConfig) -> list[str]:
    """How many bits of a vision token are on and when; nothing where all of them always are."""
    told, unseen = growth_words(train, vision.bits), unseen_widths(train, vision.bits, vision.bit_series)
    hint = f"; tokenizers.vision.bit_series = {[*unseen, vision.bits]} would teach the decoder to show fewer" if unseen else ""
    return [f"bits       {told} in a vision token{hint}"] if told else []


def elastic_lines(elastic: ElasticConfig) -> list[str]:
    """What sub-models are drawn, in one line; nothing where the full model trains alone."""
    if not elastic.on:
        return []
    axes = (("layers", elastic.depth), ("experts", elastic.width), ("experts per token", elastic.sparsity))
    drawn = [f"{axis.probability:.0%} with {' or '.join(map(str, axis.sizes))} {name}" for name, axis in axes if axis.probability > 0]
    unit = f"each of {elastic.slots} slots of a step" if elastic.unit == "slot" else "each sample"
    return [f"elastic    for {unit}: {', '.join(drawn)}"]
