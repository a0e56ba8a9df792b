"""`ernie5 launch RECIPE key=value …`: train with several processes, here or through Slurm, and look after them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ernie5.cli.parsing import Subparsers, add_command, add_overrides
from ernie5.cli.recipes import find_recipe

if TYPE_CHECKING:
    from ernie5.recipe import Recipe

DESCRIPTION = "Trains as ernie5 train does, in several processes: ends all when one fails, says why, starts again."


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    form = "RECIPE [--processes N] [--slurm …] [key=value …]"
    parser = add_command(subparsers, "launch", form, "train with several processes, here or through Slurm", DESCRIPTION, run)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    add_overrides(parser)
    parser.add_argument("--processes", type=int, metavar="N", help="per node; default: one for each GPU, or 1")
    parser.add_argument("--restarts", type=int, default=0, metavar="N", help="new starts after a crash or a hang")
    parser.add_argument("--nodes", type=int, default=1, metavar="M", help="machines of the job")
    parser.add_argument("--slurm", action="store_true", help="write a batch script and submit it")
    parser.add_argument("--print", action="store_true", help="only show the script")
    parser.add_argument("--partition", metavar="P", help="of Slurm; --account A, --time T and --cpus N (per node) too")
    for option, kind in (("--account", str), ("--time", str), ("--cpus", int)):
        parser.add_argument(option, type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--master", metavar="HOST:PORT", help="without Slurm: where node 0 runs, on every node")
    parser.add_argument("--node-rank", type=int, metavar="I", help="without Slurm: which node this is, from 0")


def run(args: argparse.Namespace) -> int:
    """Exit code of the job: 0 complete, 75 stopped and saved, 2 a mistake, else a crash."""
    recipe = find_recipe(args.recipe)
    import torch

    from ernie5.config import load_config
    from ernie5.recipe import Recipe

    gpus = torch.cuda.device_count()
    processes = args.processes if args.processes is not None else max(1, gpus)
    for option, value, least in (("--processes", processes, 1), ("--nodes", args.nodes, 1), ("--restarts", args.restarts, 0)):
        if value < least:
            raise ValueError(f"{option} {value} must be at least {least}")
    config = load_config(Recipe, recipe, args.overrides)
    config.check(args.nodes * processes)
    if args.slurm:
        return _slurm(args, recipe, config, processes)
    if args.print:
        raise ValueError("--print shows the batch script of --slurm; add --slurm")
    return _local(args, recipe, config, processes)


def _local(args: argparse.Namespace, recipe: Path, config: Recipe, processes: int) -> int:
    from ernie5.launch.ranks import Node
    from ernie5.launch.supervise import supervise
    from ernie5.run.folder import RunFolder

    node = Node(processes)
    if args.nodes > 1:
        host, colon, port = (args.master or "").rpartition(":")
        index = args.node_rank if args.node_rank is not None else int(os.environ.get("SLURM_NODEID", "-1"))
        if not colon or not port.isdecimal():
            raise ValueError(f"--nodes {args.nodes} needs --master HOST:PORT, the same on every node, as in node7:29500; or use --slurm")
        if not 0 <= index < args.nodes:
            raise ValueError(f"--nodes {args.nodes} needs --node-rank 0 to {args.nodes - 1}, another one on every node; or use --slurm")
        if args.restarts:
            raise ValueError("--restarts on several nodes needs somebody who starts all of them; use --slurm, or restart them yourself")
        node = Node(processes, args.nodes, index, (host, int(port)))
    logs = RunFolder(Path(config.run.folder)).create().logs
    return supervise(["train", str(recipe), *args.overrides], node, logs, args.restarts)


def _slurm(args: argparse.Namespace, recipe: Path, config: Recipe, processes: int) -> int:
    from ernie5.launch.slurm import SlurmConfig, batch_script, submit
    from ernie5.run.files import atomic_write
    from ernie5.run.folder import RunFolder
    from ernie5.run.secrets import mask

    gpus = 0 if config.train.device == "cpu" else processes
    asked = SlurmConfig(args.nodes, processes, gpus, args.cpus, args.partition, args.account, args.time)
    asked.check()
    folder = RunFolder(Path(config.run.folder).absolute())
    words = [str(recipe.absolute()), *args.overrides]
    text = batch_script(words, asked, f"ernie5-{folder.path.name}", folder.logs, Path.cwd(), args.restarts)
    if args.print:
        print(text, end="")
        return 0
    if mask(text) != text:
        raise ValueError("the command line holds a secret, and would be kept in the batch script; put it into the environment")
    script = folder.create().path / "slurm.sh"
    atomic_write(script, text.encode())
    print(submit(script))
    return 0
