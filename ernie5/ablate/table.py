"""The results of an ablation as text: one row a variant, mean ± spread over the seeds, and the difference to the first variant. Ours."""

from __future__ import annotations

from typing import Any

from ernie5.report.tables import direction_name

GAP = "–"
_NAMES = {"loss/multi_token": "2nd token", "loss/total": "total", "router/max_load": "max load"}


def table(result: dict[str, Any], columns: int = 100) -> str:
    """`result` of results.collect, in blocks that fit `columns` characters."""
    names = [variant["name"] for variant in result["variants"]]
    width = max(map(len, ["", *names]))
    blocks, line = [], columns - width
    cells = [[metric_name(key), *(cell(key, variant) for variant in result["variants"])] for key in result["metrics"]]
    while cells:
        taken = [cells.pop(0)]
        while cells and sum(2 + max(map(len, c)) for c in [*taken, cells[0]]) <= line:
            taken.append(cells.pop(0))
        right = [[f"  {c:>{max(map(len, column))}}" for c in column] for column in taken]
        blocks.append("\n".join("".join(row) for row in zip([f"{name:{width}}" for name in ["", *names]], *right, strict=True)))
    missing = [run["folder"] for variant in result["variants"] for run in variant["runs"] if not run["finished"]]
    notes = [f"not finished: {', '.join(missing)}"] if missing else []
    if blocks:
        first = names[0]
        told = f"held-out loss and accuracy; ± standard deviation over {len(result['seeds'])} seeds; " if len(result["seeds"]) > 1 else ""
        notes.append(f"{told}difference to {first}, seed by seed (* = clear at 95 %)")
    return "\n\n".join([*blocks, "\n".join(notes)])


def metric_name(key: str) -> str:
    """`loss/text` -> `text`, `accuracy/text_to_image` -> `text → image`."""
    return _NAMES.get(key) or direction_name(key.partition("/")[2])


def cell(key: str, variant: dict[str, Any]) -> str:
    """`0.4912 ±0.0031 +0.8%*`"""
    found = variant["metrics"].get(key)
    if found is None:
        return GAP
    parts = [plain(key, found["mean"])] + ([f"±{plain(key, found['spread'])}"] if found["spread"] is not None else [])
    if found["difference"] is not None:
        parts.append(difference_text(key, found["difference"]))
    return " ".join(parts)


def plain(key: str, value: float) -> str:
    """Accuracies with three digits, as the evaluation counts them; losses with four."""
    return f"{value:.2f}" if key == "router/max_load" else f"{value:.3f}" if key.startswith("accuracy/") else f"{value:.4f}"


def difference_text(key: str, found: dict[str, Any]) -> str:
    """Losses in per cent of the first variant, accuracies as they are; a star where the difference is clear."""
    star = "*" if found["clear"] else ""
    if key.startswith("accuracy/") or found["relative"] is None:
        return f"{found['mean'] + 0:+.3f}{star}"
    return f"{round(100 * found['relative'], 2) + 0:+.2f}%{star}"
