"""`ernie5 export RUN_DIR OUT`: a sub-model of a trained run as a run of its own, cut from one checkpoint.

    choose   --layers --experts --top-k, or --budget: the best measured point of elastic.json within it
    keep     which experts: by usage on a calibration stream, or an even subset
    write    recipe, tokenizers, demo world, checkpoint (weights, moments, router counts: only its own), model.safetensors + config.json

Report: §3.3, §6.4.2 (a sub-model is taken from the pre-trained checkpoint and goes on through the same later stages). Ours: all formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ernie5.analysis.trade_off import pick, read_surface, size_of
from ernie5.family.export_folder import check_out, publish, small_recipe
from ernie5.family.keep_experts import Experts, Keep, Size, by_usage, evenly
from ernie5.family.standalone import Sizes, check_fits, load_model
from ernie5.family.surface import CALIBRATION
from ernie5.generate.generator import Generator
from ernie5.model.config import ModelConfig
from ernie5.model.count import ModelSize, count
from ernie5.model.elastic import SubModel
from ernie5.model.extract import cut_config, cut_tensors
from ernie5.parallel.shards import model_tensors
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import Checkpoint
from ernie5.run.folder import RunFolder
from ernie5.train.load import load_run
from ernie5.train.usage import measure_usage

__all__ = ["Exported", "Wanted", "export_run", "load_model"]


@dataclass(frozen=True)
class Wanted:
    """What the user asks for: sizes (None = as in the full model) or a budget; how experts are kept, by how many samples per source."""

    layers: int | None = None
    experts: int | None = None
    top_k: int | None = None
    budget: str | None = None
    keep: Keep = "usage"
    n: int | None = None

    def check(self) -> None:
        """ValueError for options that contradict each other."""
        sizes = (self.layers, self.experts, self.top_k)
        if self.budget is not None and any(size is not None for size in sizes):
            raise ValueError("--budget chooses the sizes from the measured grid; leave out --layers, --experts and --top-k, or the budget")
        if self.budget is not None and (self.keep != "usage" or self.n is not None):
            raise ValueError("--budget takes a point as it was measured, experts kept by usage; leave out --keep and --n, or give sizes")
        if self.keep != "usage" and self.n is not None:
            raise ValueError(f"--n counts the samples that measure usage, and --keep {self.keep} measures none; leave one of them out")
        if self.n is not None and self.n < 1:
            raise ValueError(f"--n {self.n} must be at least 1")


@dataclass(frozen=True)
class Exported:
    """What was made, for people: sizes of the full and the small model, what stayed, remarks, and bytes by file."""

    out: Path
    origin: str
    config: ModelConfig
    full: ModelSize
    small: ModelSize
    size: Size
    submodel: SubModel
    kept_by: str
    remarks: list[str]
    num_bytes: dict[str, int]


def export_run(spec: str | Path, out: Path, wanted: Wanted) -> Exported:
    """Write the sub-model of `RUN_DIR[@STEP]` into `out`, which appears complete or not at all.

    ValueError, before anything is written, for sizes that the run does not hold, budgets that no measured point meets, and an `out` in use.
    """
    wanted.check()
    check_out(out)
    recipe, model, generator, saved = load_run(spec)
    folder = RunFolder(Path(recipe.run.folder))
    config, num_codebooks = model.config, model.vocabulary.num_codebooks
    size, calibration = _size(wanted, recipe, folder, saved)
    size.check(config, num_codebooks, recipe.elastic.expert_blocks)
    experts, kept_by = _experts(size, wanted.keep, calibration, recipe, folder, generator)
    submodel = size.submodel(config, num_codebooks, experts)
    submodel.check(config, num_codebooks)

    small, remarks = small_recipe(recipe, cut_config(config, submodel), num_codebooks, out)
    bits = generator.widths.bits
    if bits < model.vocabulary.bits:
        remarks.append(f"{bits} of {model.vocabulary.bits} bits of a vision token are on at step {saved.step}; the others are zero weights")
    sizes = Sizes(small.model, model.vocabulary, small.understanding)
    tensors = cut_tensors(saved.tensors, submodel, config)
    with torch.device("meta"):
        skeleton = sizes.build()
    check_fits(model_tensors(tensors), skeleton, folder.path)
    full_size, small_size = count(model, recipe.train.length), count(skeleton, recipe.train.length)
    origin = f"{folder.path}@{saved.step}"
    about = {
        "from": origin, "step": saved.step, "kept_by": kept_by, "layers": list(submodel.keep_layers or range(config.num_layers)),
        "bits": bits,
        "experts": None if submodel.experts is None else [list(layer) for layer in submodel.experts], "top_k": size.top_k,
        "parameters": {"total": small_size.total, "active": small_size.active, "of_total": full_size.total, "of_active": full_size.active},
    }
    num_bytes = publish(out, recipe, small, sizes, saved, tensors, about)
    return Exported(out, origin, config, full_size, small_size, size, submodel, kept_by, remarks, num_bytes)


def _size(wanted: Wanted, recipe: Recipe, folder: RunFolder, saved: Checkpoint) -> tuple[Size, int]:
    """The size to export, and how many samples per source decide on its experts."""
    if wanted.budget is not None:
        surface = read_surface(folder, saved.step)
        return Size(*size_of(pick(surface["points"], wanted.budget))), surface["calibration"]
    full = Size.full(recipe.model)
    layers, experts, top_k = (own if asked is None else asked
                              for asked, own in zip((wanted.layers, wanted.experts, wanted.top_k), full.key(), strict=True))
    return Size(layers, experts, top_k), wanted.n or CALIBRATION


def _experts(
    size: Size, keep: Keep, calibration: int, recipe: Recipe, folder: RunFolder, generator: Generator
) -> tuple[Experts | None, str]:
    """The experts that stay in every layer (None = all), and how they were chosen, in words."""
    config, blocks = recipe.model, recipe.elastic.expert_blocks
    if size.experts == config.num_experts:
        return None, "all experts stay"
    match keep:
        case "usage":
            usage = measure_usage(recipe, folder, generator, calibration)
            return by_usage(usage, size.experts, blocks), f"by usage on up to {calibration} samples of every training source"
        case "even":
            return evenly(config.num_experts, size.experts, config.num_moe_layers, blocks), "an even subset"
