"""Who goes where: for every layer a map of kinds (rows) by experts (columns).

    value[r, e] = num_experts * positions of kind r that chose e / all choices of kind r        1 = spread evenly
Report: the routing study of §2.1 splits positions by modality and role. Ours: colours on a log scale from 1/4 to 4.
Letters: L layers, R kinds, E experts.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np

from ernie5.report.html import Html, data_uri, el
from ernie5.sequence import Kind

COLD, EVEN, WARM = (np.array(c, dtype=float) for c in ((43, 88, 166), (236, 236, 232), (190, 70, 34)))
LIMIT = 2.0  # of log2: 1/4 … 4


def specialisation(load: np.ndarray) -> np.ndarray:
    """Choices `… R E` -> times the even share `… R E`; nan for kinds that never occurred."""
    total = load.sum(axis=-1, keepdims=True)
    return np.divide(load * load.shape[-1], total, out=np.full(load.shape, np.nan), where=total > 0)


def router_maps(load: np.ndarray, num_layers: int | None) -> Html | None:
    """One map a layer from `L R E`; a row more than `num_layers` is the multi-token layer. None when nothing was routed yet."""
    seen = load.sum(axis=(0, 2)) > 0  # R
    if not seen.any():
        return None
    kinds = [kind_name(kind) for kind in Kind if seen[kind]]
    maps = [_layer(_layer_name(i, len(load), num_layers), layer[seen], kinds) for i, layer in enumerate(load)]
    ramp = np.linspace(-LIMIT, LIMIT, 64)[None]
    key = el("div", "≤ ¼ of an even share", el("img", src=_png(2.0**ramp), alt="colour scale"), "≥ 4 ×  (pale = even)", class_="scale")
    return Html(key + el("div", maps, class_="routers"))


def kind_name(kind: Kind) -> str:
    """`IMAGE_UNDERSTAND` -> `image read`, `IMAGE_GENERATE` -> `image made`."""
    return kind.name.lower().replace("_understand", " read").replace("_generate", " made")


def _layer_name(index: int, count: int, num_layers: int | None) -> str:
    return "multi-token layer" if num_layers is not None and index == num_layers == count - 1 else f"layer {index + 1}"


def _layer(name: str, load: np.ndarray, kinds: list[str]) -> Html:
    values = specialisation(load)  # R E
    together = specialisation(load.sum(axis=0))  # E
    favourites = [f"{kind}: expert {int(np.nanargmax(row)) + 1} ({np.nanmax(row):.1f} ×)"
                  for kind, row in zip(kinds, values, strict=True) if np.isfinite(row).all()]
    told = f"{name}, most loaded expert of every kind: " + ", ".join(favourites)
    picture = el("img", src=_png(values), alt=told, title=told, style=f"height:{16 * len(kinds)}px")
    busiest = f"busiest expert {np.nanmax(together):.2f} ×" if np.isfinite(together).all() else "nothing routed here yet"
    rows = el("div", [el("span", kind) for kind in kinds])
    return el("figure", el("figcaption", el("b", name), busiest), el("div", rows, picture, class_="heat"), class_="card")


def _png(values: np.ndarray) -> str:
    """A picture of one pixel a value; transparent where there is none."""
    from PIL import Image

    with np.errstate(divide="ignore"):
        place = np.clip(np.log2(np.nan_to_num(values, nan=1.0)), -LIMIT, LIMIT)[..., None] / LIMIT  # R E 1, -1 … 1
    colour = EVEN + np.abs(place) * (np.where(place < 0, COLD, WARM) - EVEN)
    alpha = np.where(np.isfinite(values), 255, 0)[..., None]
    file = BytesIO()
    Image.fromarray(np.concatenate([colour, alpha], axis=-1).round().astype(np.uint8), "RGBA").save(file, "PNG", optimize=True)
    return data_uri("image/png", file.getvalue())
