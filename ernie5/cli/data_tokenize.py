"""`ernie5 data tokenize SHARDS OUT --run RUN_DIR`: encode once what training would encode again and again."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ernie5.cli.parsing import Subparsers, add_command, add_overrides
from ernie5.cli.recipes import find_recipe

if TYPE_CHECKING:
    from ernie5.data_pipelines.tokenized.write import Job, Work
    from ernie5.recipe import Recipe

TOKENIZE = """Writes shards with text ids, audio codes, and latents, features and pixels of pictures. Training from them gives the batches
that SHARDS give, and refuses them under other tokenizers or settings. SHARDS: a path, pattern or URL, or a source of the recipe by name.
Killed at any point, the same command goes on.

  ernie5 data tokenize my_shards my_codes --run runs/tiny_cpu --processes 2
  ernie5 train tiny_cpu run.tokenizers=runs/tiny_cpu data.sources='{mine: {path: my_codes}}'

On many machines, each with its own part:

  torchrun --nproc-per-node 8 -m ernie5 data tokenize my_shards my_codes --run runs/tiny_cpu
  RANK=$SLURM_ARRAY_TASK_ID WORLD_SIZE=$SLURM_ARRAY_TASK_COUNT ernie5 data tokenize …"""


def add_tokenize(actions: Subparsers) -> None:
    """Declare the action."""
    parser = add_command(actions, "tokenize", "SHARDS OUT --run RUN_DIR [key=value …]", "encode shards once", TOKENIZE, run_tokenize)
    parser.add_argument("shards", metavar="SHARDS", help="what is to be encoded")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the shards")
    parser.add_argument("--run", metavar="RUN_DIR", dest="run_dir", help="recipe and tokenizers of this run")
    parser.add_argument("--recipe", metavar="R", help="a recipe, instead of a run's")
    parser.add_argument("--tokenizers", type=Path, metavar="DIR", help="another run, or a folder with text, vision and audio")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="of this machine and rank (default 1)")
    parser.add_argument("--samples-per-shard", type=int, default=1000, metavar="N", help="default 1000; a killed shard is done again")
    parser.add_argument("--bits", action="store_true", help="bits instead of latents: smaller; needs data.history.flip_max=0")
    parser.add_argument("--generate-only", action="store_true", help="no pixels and features: pictures that are never read")
    add_overrides(parser, "data.limits.audio_seconds=2")


def run_tokenize(args: argparse.Namespace) -> int:
    """0 when this rank's shards are there."""
    from ernie5.data_pipelines.tokenized.run import tokenize, told
    from ernie5.train.assemble import check_sizes

    recipe = _recipe(args)
    job = _job(args, recipe)
    rank, world_size = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    work = job.open()
    check_sizes(recipe, work.encoder.tokenizers)
    if rank == 0:
        print(first_screen(job, work, args.processes, world_size), file=sys.stderr)
    found = tokenize(job, work, args.processes, rank, world_size)
    if rank == 0 or found.num_there == found.num_shards:
        print(told(found, args.out))
    else:
        print(f"rank {rank} of {world_size} has done its part: {found.num_there} of {found.num_shards} shards are there")
    if found.num_there == found.num_shards and found.num_samples == found.num_rejected:
        raise ValueError(f"every sample was rejected; `ernie5 data verify {args.out}` says why")
    return 0


def first_screen(job: Job, work: Work, processes: int, world_size: int) -> str:
    """What will happen."""
    tokenizers = work.encoder.tokenizers
    prints = ", ".join(f"{kind} {getattr(tokenizers, kind).fingerprint}" for kind in ("text", "vision", "audio"))
    there = sum(work.is_there(n) for n in range(work.num_shards))
    pictures = ("bits" if job.keep.bits else "latents (float32)") + (", features (float32), pixels (PNG)" if job.keep.understood else "")
    return "\n".join([
        f"source     {job.config.path}: {len(work.source):,} samples",
        f"tokenizers {prints}",
        f"keeps      texts and ids; of pictures and clips {pictures}; of sounds codes",
        f"writes     {job.out}: {work.num_shards} shards of up to {job.samples_per_shard:,} samples" + f", {there} are there" * (there > 0),
        f"with       {processes} process(es) of one thread, {world_size} rank(s)",
        f"then       data.sources: {{{job.name}: {{path: {job.out}}}}}",
    ])


def _recipe(args: argparse.Namespace) -> Recipe:
    from ernie5.config import load_config, to_plain
    from ernie5.inspect.from_recipe import recipe_of
    from ernie5.recipe import Recipe

    if bool(args.run_dir) and bool(args.recipe):
        raise ValueError("give --run or --recipe, not both")
    if not args.run_dir and not args.tokenizers and not args.recipe:
        raise ValueError("give --run RUN_DIR, whose recipe and tokenizers are used, or --tokenizers DIR")
    if args.run_dir:
        return load_config(Recipe, to_plain(recipe_of(args.run_dir)), args.overrides)
    return load_config(Recipe, find_recipe(args.recipe) if args.recipe else {}, args.overrides)


def _job(args: argparse.Namespace, recipe: Recipe) -> Job:
    from ernie5.data_pipelines.tokenized.codes import Keep
    from ernie5.train.tokenize_data import tokenize_job

    keep = Keep(bits=args.bits, understood=not args.generate_only)
    return tokenize_job(recipe, args.shards, args.out, args.tokenizers, keep, args.samples_per_shard)
