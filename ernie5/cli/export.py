"""`ernie5 export RUN_DIR OUT --layers 8 --experts 32 --top-k 4`: take a smaller model out of a trained one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ernie5.cli.parsing import Subparsers, add_command, check_run

if TYPE_CHECKING:
    from ernie5.family.export import Exported

DESCRIPTION = """Writes a sub-model of a run as a run of its own, nothing is trained: OUT can be trained, resumed, sampled, evaluated and
exported like any other, and OUT/model.safetensors is loaded without it. Without options the whole model is written.

  ernie5 export runs/elastic runs/small --layers 8 --experts 32 --top-k 4
  ernie5 export runs/elastic runs/half --budget active=50%"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    form = "RUN_DIR[@STEP] OUT [--layers N] …"
    parser = add_command(subparsers, "export", form, "take a smaller model out of a trained one", DESCRIPTION, run)
    parser.add_argument("run_dir", metavar="RUN_DIR[@STEP]", help="folder of a trained run")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the new run")
    parser.add_argument("--layers", type=int, metavar="N", help="layers that stay")
    parser.add_argument("--experts", type=int, metavar="N", help="experts of every layer that stay")
    parser.add_argument("--top-k", type=int, metavar="K", help="experts per token")
    parser.add_argument("--budget", metavar="B", help="active=50%%, total=1.2M, tokens_per_s=120%%: the best measured one")
    parser.add_argument("--keep", choices=("usage", "even"), default="usage", metavar="HOW", help="usage (default) or even: which experts")
    parser.add_argument("--n", type=int, metavar="N", help="samples per source that measure usage (default 200)")


def run(args: argparse.Namespace) -> int:
    """Print what was made."""
    check_run(args.run_dir)
    from ernie5.family.export import Wanted, export_run

    print(table(export_run(args.run_dir, args.out, Wanted(args.layers, args.experts, args.top_k, args.budget, args.keep, args.n))))
    return 0


def table(made: Exported) -> str:
    """Sizes beside those of the full model, what stayed, and the files."""
    config, size = made.config, made.size
    rows = [("layers", config.num_layers, size.layers), ("experts per layer", config.num_experts, size.experts),
            ("experts per token", config.top_k, size.top_k), ("parameters", made.full.total, made.small.total),
            ("active per token", made.full.active, made.small.active)]
    lines = [f"{'':20}{'full':>15}{'sub-model':>15}{'share':>9}"]
    lines += [f"{name:20}{full:>15,}{small:>15,}{small / full:>9.1%}" for name, full, small in rows]
    lines += ["", f"experts: {made.kept_by}"]
    kept = made.submodel.keep_layers or tuple(range(config.num_layers))
    if len(kept) < config.num_layers:
        lines.append(f"layers kept: {_counted(kept)}")
    if made.submodel.experts is not None:
        for i in (*kept, *range(config.num_layers, config.num_moe_layers)):
            name = "multi-token" if i == config.num_layers else f"layer {i + 1}"
            lines.append(f"  {name:12}{_counted(made.submodel.experts[i])}")
    lines += [f"note: {remark}" for remark in made.remarks]
    lines += ["", *(f"{made.out / name}  {num_bytes / 2**20:,.1f} MiB" for name, num_bytes in made.num_bytes.items())]
    return "\n".join(lines)


def _counted(indices: tuple[int, ...]) -> str:
    """Counted from 1, as the report does."""
    return " ".join(str(index + 1) for index in indices)
