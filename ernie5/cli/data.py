"""`ernie5 data demo | pack | inspect | verify | curate | tokenize`: shards to train on, and what is in them."""

from __future__ import annotations

import argparse
from pathlib import Path

from ernie5.cli import data_inspect
from ernie5.cli.data_curate import add_curate
from ernie5.cli.data_tokenize import add_tokenize
from ernie5.cli.parsing import Subparsers, add_command, add_overrides, add_subparsers, list_commands

DESCRIPTION = "Makes the shards (tar files of the webdataset layout) that training reads, and looks after them."
DEMO = """Writes the "shapes and sounds" world: captioned images, clips and sounds, plain text and documents that mix them. The same
settings give the same bytes. ernie5 train makes it by itself where a recipe asks for it.

  ernie5 data demo demo_shards seed=1"""
PACK = """Packs your own files. Files that share a stem are one sample: a.jpg a.txt, b.wav b.txt, c.mp4 c.txt, d.txt; or e.json with the
ordered segments of a document. What cannot be used is listed with the reason and left out.

  ernie5 data pack my_photos my_shards
  ernie5 train tiny_cpu data.sources='{mine: {path: my_shards}}'"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command and its two actions."""
    parser = add_command(subparsers, "data", "COMMAND …", "make, pack, inspect, verify, curate and tokenize data", DESCRIPTION)
    actions = add_subparsers(parser)
    demo = add_command(actions, "demo", "OUT [key=value …]", "write the demo world as shards", DEMO, run_demo)
    demo.add_argument("out", type=Path, metavar="OUT", help="folder for the shards")
    add_overrides(demo, "seed=1")
    pack = add_command(actions, "pack", "FOLDER OUT", "pack a folder of your own files", PACK, run_pack)
    pack.add_argument("folder", type=Path, metavar="FOLDER", help="your files; sub-folders are searched too")
    pack.add_argument("out", type=Path, metavar="OUT", help="folder for the shards")
    add_curate(actions)
    add_tokenize(actions)
    data_inspect.add_actions(actions)
    list_commands(parser, actions)


def run_demo(args: argparse.Namespace) -> int:
    """Write the demo world."""
    from ernie5.config import load_config
    from ernie5.data_pipelines.synthetic.demo import DemoConfig, write_demo

    summary = write_demo(args.out, load_config(DemoConfig, {}, args.overrides))
    for name, count in summary.num_samples.items():
        print(f"{count:6d}  {name}")
    print(f"{summary.num_bytes / 1e6:.1f} MB in {summary.folder}")
    return 0


def run_pack(args: argparse.Namespace) -> int:
    """Pack the folder; print what was packed, and what was rejected and why."""
    if not args.folder.is_dir():
        raise ValueError(f"{args.folder}: no such folder; it should hold your files, for example a.jpg and a.txt")
    from ernie5.data_pipelines.pack_folder import pack_folder

    print(pack_folder(args.folder, args.out))
    return 0
