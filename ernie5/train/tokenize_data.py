"""From a recipe or a run to a job of tokenizing: which source, whose tokenizers, which decoding.

Ours.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

from ernie5.data_pipelines.data_files import stem
from ernie5.data_pipelines.encode import Tokenizers
from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.data_pipelines.tokenized.codes import Keep
from ernie5.data_pipelines.tokenized.write import Job
from ernie5.recipe import DEMO, Recipe
from ernie5.train.prepare import OURS, decoding_of, load_tokenizers, missing_tokenizers, placed


def tokenize_job(recipe: Recipe, shards: str, out: Path, tokenizers: Path | None, keep: Keep, samples_per_shard: int) -> Job:
    """`shards`: a source of the recipe by its name, or a path, pattern or URL. `tokenizers`: a run, or a folder with text, vision, audio.

    ValueError where there are no tokenizers, or where the recipe would refuse the shards for what they keep.
    """
    if keep.bits and recipe.data.history.flip_max > 0:
        raise ValueError(f"--bits: data.history.flip_max = {recipe.data.history.flip_max} corrupts the history and needs the latents; "
                         "add data.history.flip_max=0, or leave --bits out")
    folder = None if tokenizers is None else _folder(tokenizers)
    if folder is None and (missing := missing_tokenizers(recipe)):
        raise ValueError(f"{recipe.run.folder} lacks the tokenizers {', '.join(missing)}; `ernie5 tokenizer train` makes them")
    if shards in recipe.data.sources and Path(shards).exists():
        raise ValueError(f"{shards} is a source of the recipe, and there is a file or folder of this name; write ./{shards} for the latter")
    source = recipe.data.sources.get(shards)
    source = placed(recipe, source if source is not None else SourceConfig(shards))
    if source.native:
        raise ValueError(f"data.sources.{shards}.native = true: its images keep their own sizes and are only read: there are no codes to "
                         "store; train on them as they are")
    if "://" not in source.path:
        source = replace(source, path=str(Path(source.path).absolute()))  # other processes may have another working folder
    base = shards.removeprefix(DEMO).rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w-]+", "_", stem(base)).strip("_") or "codes"
    return Job(name, source, out.absolute(), partial(load, recipe, folder), decoding_of(recipe, source), keep, samples_per_shard)


def load(recipe: Recipe, folder: Path | None) -> Tokenizers:
    """The tokenizers of a job."""
    return load_tokenizers(recipe, folder)


def _folder(tokenizers: Path) -> Path:
    for folder in (tokenizers / "tokenizers", tokenizers):
        if all((folder / kind).is_dir() for kind in OURS):
            return folder
    raise ValueError(f"--tokenizers {tokenizers} must be a run, or a folder that holds {', '.join(OURS)}; ernie5 tokenizer train makes one")
