"""`ernie5 eval RUN_DIR --grid`: what every sub-model of a trained run is worth and what it costs -> elastic.json.

    points: layers x experts x top-k, the full model always among them. Each: extracted as a stand-alone model, then
    loss (held-out, per modality; total = train.loss_weights), rows (with --media), active and total parameters, tokens_per_s, pareto

Written after every point, so a killed grid goes on. Decoding speed is taken at the end, every point once a round, median of the rounds:
what disturbs the machine disturbs all points alike. Report: §6.4.2, tables 9-11. Ours: experts are kept by usage.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ernie5.analysis.trade_off import SURFACE, pareto, read_json, size_of
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.family.decode_speed import decode_speed, prompts_of
from ernie5.family.grid import Grid
from ernie5.family.keep_experts import Size, by_usage
from ernie5.generate.choose import Sampling
from ernie5.generate.generator import Generator
from ernie5.model.count import count
from ernie5.model.extract import extract
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.recipe import Recipe
from ernie5.run.files import atomic_write
from ernie5.run.folder import RunFolder
from ernie5.run.progress import Silent, progress
from ernie5.sequence import PackedSequence, Sample
from ernie5.train.assemble import build_generator
from ernie5.train.evaluate import with_settings
from ernie5.train.evaluate_loss import heldout_batches, loss_on
from ernie5.train.evaluate_media import KINDS, judged_samples, medium_to_text, text_to_medium
from ernie5.train.load import load_run
from ernie5.train.prepare import open_sources
from ernie5.train.usage import measure_usage

log = logging.getLogger(__name__)
ROUNDS = 5
CALIBRATION = 200  # samples of every training source that decide which experts stay


def measure_surface(
    spec: str | Path, grid: Grid, n: int | None = None, media: bool = False, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure what is not measured yet and return what elastic.json holds. `n`: held-out samples per source (and per row).

    ValueError for sizes that the model does not hold. Points of an earlier, equal measurement stay.
    """
    recipe, model, generator, saved = load_run(spec)
    recipe = with_settings(recipe, overrides)
    sizes = grid.sizes(model.config, model.vocabulary.num_codebooks, recipe.elastic.expert_blocks)
    bench = Bench(recipe, RunFolder(Path(recipe.run.folder)), model, generator, n or recipe.evaluate.num_samples)
    surface = _begin(bench, saved.step, sizes)
    points = surface["points"]
    lacking = [p for p in points if "loss" not in p or (media and "rows" not in p)]
    with progress("sub-models", total=len(lacking)) as bar:
        for point in lacking:
            bench.measure(point, media)
            bench.save(surface)
            bar.advance(1, layers=point["layers"], experts=point["experts"], top_k=point["top_k"], loss=f"{point['loss']['total']:.3f}")
    _measure_speed(bench, surface)
    for point, best in zip(points, pareto(points), strict=True):
        point["pareto"] = best
    bench.save(surface)
    return surface


@dataclass
class Bench:
    """A trained model and what its sub-models are held against; the parts are made when first needed."""

    recipe: Recipe
    folder: RunFolder
    model: UnifiedTransformer
    generator: Generator
    n: int
    _prompts: Tensor | None = field(default=None, init=False)

    @cached_property
    def usage(self) -> Tensor:
        return measure_usage(self.recipe, self.folder, self.generator, CALIBRATION)

    @cached_property
    def batches(self) -> list[PackedSequence]:
        return list(heldout_batches(self.recipe, self.folder, self.generator, self.n))

    @cached_property
    def judged(self) -> dict[str, list[Sample]]:
        quarantine = Quarantine(self.folder.logs / "quarantine.jsonl", self.recipe.data.tolerance)
        corpus = open_sources(self.recipe, self.recipe.data.heldout, quarantine)
        found = {kind: judged_samples(corpus, kind, self.n) for kind in KINDS}
        return {kind: samples for kind, samples in found.items() if samples}

    def small(self, point: dict[str, Any]) -> UnifiedTransformer:
        """The stand-alone model of a point."""
        size, config = Size(*size_of(point)), self.model.config
        cut = size.experts < config.num_experts
        experts = by_usage(self.usage, size.experts, self.recipe.elastic.expert_blocks) if cut else None
        return extract(self.model, size.submodel(config, self.model.vocabulary.num_codebooks, experts)).eval()

    def measure(self, point: dict[str, Any], media: bool) -> None:
        """Parameters, loss, and rows where they are asked for; only what the point lacks."""
        small = self.small(point)
        if "loss" not in point:
            sizes = count(small, self.recipe.train.length)
            losses = loss_on(small, self.batches)
            together = self.recipe.train.loss_weights.total(losses)
            point |= {"active": sizes.active, "total": sizes.total, "loss": {"total": together, **losses}}
        if media and "rows" not in point:
            point["rows"] = self.rows(build_generator(self.recipe, self.generator.tokenizers, small, self.generator.widths.bits))

    def rows(self, generator: Generator) -> dict[str, dict[str, float]]:
        """Both directions of every kind, as `ernie5 eval` measures them."""
        settings, bar = self.recipe.evaluate, Silent()
        sampling = Sampling(settings.temperature, settings.guidance)
        rows = {}
        for kind, samples in self.judged.items():
            rows[f"text_to_{kind}"], _ = text_to_medium(generator, kind, samples, sampling, settings.batch, bar)
            rows[f"{kind}_to_text"], _ = medium_to_text(generator, kind, samples, settings.batch, bar)
        return {name: {key: row[key] for key in ("accuracy", "chance", "ceiling", "n")} for name, row in rows.items()}

    def speed(self, point: dict[str, Any]) -> float:
        """Tokens per second of one go."""
        if self._prompts is None:
            self._prompts = prompts_of(self.batches)
        return decode_speed(self.small(point), self.generator.widths, self._prompts)

    def save(self, surface: dict[str, Any]) -> None:
        atomic_write(self.folder.path / SURFACE, json.dumps(surface, indent=1).encode())


def _begin(bench: Bench, step: int, sizes: list[Size]) -> dict[str, Any]:
    """The surface so far, with a place for every wanted size; anew when the file speaks of something else."""
    settings, device = bench.recipe.evaluate, next(bench.model.parameters()).device
    head = {
        "step": step, "n": bench.n, "seed": bench.recipe.run.seed, "device": device.type, "keep": "usage", "calibration": CALIBRATION,
        "sampling": {"temperature": settings.temperature, "guidance": settings.guidance},
    }
    found = read_json(bench.folder.path / SURFACE)
    changed = [key for key, value in head.items() if found is not None and found.get(key) != value]
    if changed:
        assert found is not None
        key = changed[0]
        log.warning("%s was measured with %s = %s, now it is %s: all points are measured anew", SURFACE, key, found.get(key), head[key])
    old = {size_of(p): p for p in found["points"]} if found is not None and not changed else {}
    wanted = {size.key() for size in sizes}
    keys = sorted(old.keys() | wanted, reverse=True)
    names = ("layers", "experts", "top_k")
    return head | {"threads": torch.get_num_threads(), "points": [old.get(key, dict(zip(names, key, strict=True))) for key in keys]}


def _measure_speed(bench: Bench, surface: dict[str, Any]) -> None:
    """Every point once a round. Speeds of a finished measurement are dropped when points came in: only speeds taken in turn compare."""
    points = surface["points"]
    done = [len(p.get("speeds", ())) for p in points]
    if max(done) - min(done) > 1:
        for point in points:
            point["speeds"] = []
    with progress("decoding speed", total=sum(ROUNDS - len(p.get("speeds", ())) for p in points)) as bar:
        for number in range(ROUNDS):
            for point in points if number % 2 == 0 else reversed(points):
                if len(point.setdefault("speeds", [])) > number:
                    continue
                point["speeds"].append(round(bench.speed(point), 1))
                bench.save(surface)
                bar.advance(1, round=f"{number + 1}/{ROUNDS}")
    for point in points:
        point["tokens_per_s"] = median(point["speeds"])
