"""`ernie5 eval RUN_DIR`: how good a model is on combinations that training never saw -> a table, eval.json, and samples to look at.

    {"text_to_image": {"accuracy", "chance", "ceiling", "n", "per_attribute"}, "image_to_text": …, "text_to_video", …, "loss": {…}, "step"}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ernie5.config import load_config, to_plain
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.generate.choose import Sampling
from ernie5.generate.generator import Generator
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.recipe import Recipe
from ernie5.run.files import atomic_write
from ernie5.run.folder import RunFolder
from ernie5.run.progress import progress
from ernie5.sequence import Role
from ernie5.train.assemble import build_generator
from ernie5.train.evaluate_loss import heldout_loss
from ernie5.train.evaluate_media import KINDS, Made, judged_samples, medium_to_text, text_to_medium
from ernie5.train.load import load_run
from ernie5.train.prepare import Corpus, load_tokenizers, open_sources
from ernie5.train.samples import save_samples


def evaluate_run(spec: str | Path, n: int | None = None, overrides: Sequence[str] = ()) -> dict:
    """Evaluate the latest (or `RUN_DIR@STEP`) checkpoint; `n` prompts per direction. Returns what eval.json holds.

    `overrides` change how it is evaluated (`evaluate.guidance=2`), never what was trained: other keys are a ValueError.
    """
    recipe, _, generator, saved = load_run(spec)
    recipe = with_settings(recipe, overrides)
    folder = RunFolder(Path(recipe.run.folder))
    return evaluate(generator, recipe, folder, folder.path / "eval.json", saved.step, n)


def with_settings(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe of a run with other `evaluate.*`; a ValueError for any other key."""
    other = [word for word in overrides if not word.startswith("evaluate.")]
    if other:
        raise ValueError(f"{other[0]}: an evaluation can only change evaluate.*; train or fork a run to change anything else")
    recipe = load_config(Recipe, to_plain(recipe), overrides)
    recipe.check()
    return recipe


def evaluated_step(folder: RunFolder) -> int | None:
    """The step that eval.json speaks of, None where there is none."""
    path = folder.path / "eval.json"
    return json.loads(path.read_bytes()).get("step") if path.exists() else None


def evaluate_model(model: UnifiedTransformer, recipe: Recipe, folder: RunFolder, out: Path, step: int) -> dict:
    """Evaluate a model in training."""
    generator = build_generator(recipe, load_tokenizers(recipe), model, recipe.train.bits_at(step))
    return evaluate(generator, recipe, folder, out, step)


def evaluate(generator: Generator, recipe: Recipe, folder: RunFolder, out: Path, step: int, n: int | None = None) -> dict:
    """All rows that the held-out sources allow, and the held-out loss of the model after `step` steps."""
    settings = recipe.evaluate
    generator.model.eval()
    corpus = open_sources(recipe, recipe.data.heldout, Quarantine(folder.logs / "quarantine.jsonl", recipe.data.tolerance))
    result: dict = judge_media(generator, recipe, corpus, folder, n) if settings.media else {}
    if corpus.sources:
        losses = heldout_loss(recipe, folder, generator, settings.num_samples)
        result["loss"] = {"total": recipe.train.loss_weights.total(losses), **losses}
    result["step"] = step
    result["sampling"] = {"temperature": settings.temperature, "guidance": settings.guidance}
    atomic_write(out, json.dumps(result, indent=1).encode())
    return result


def judge_media(generator: Generator, recipe: Recipe, corpus: Corpus, folder: RunFolder, n: int | None) -> dict:
    """A row for every direction that the held-out sources allow; what was made goes to the samples folder."""
    settings = recipe.evaluate
    samples = {kind: judged_samples(corpus, kind, n or (settings.num_clips if kind == "video" else settings.num_samples)) for kind in KINDS}
    sampling = Sampling(settings.temperature, settings.guidance)
    rows: dict = {}
    with progress("evaluation", total=2 * sum(len(s) for s in samples.values())) as bar:
        for kind, held_out in samples.items():
            if not held_out:
                continue
            made: list[Made] = []
            if all(s.role is Role.GENERATE for sample in held_out for s in sample.segments):  # not where media are only read
                rows[f"text_to_{kind}"], made = text_to_medium(generator, kind, held_out, sampling, settings.batch, bar)
            rows[f"{kind}_to_text"], written = medium_to_text(generator, kind, held_out, settings.batch, bar)
            save_samples(folder.samples, kind, made, written, generator.tokenizers.audio.sample_rate_hz, recipe.data.limits.fps)
    return rows
