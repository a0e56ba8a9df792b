"""`routing.json`: the numbers of the routing study of one run, as written by `ernie5 analyze` and drawn in its report.

    {"step", "samples", "num_experts", "top_k", "num_layers", "top_set", "kinds": [R names], "chance": {"iou", "iou_95"},
     "layers": [{"name", "positions": [R], "entropy": [R], "chance_entropy": [R], "peak": [R], "peak_expert": [R], "chance_peak": [R],
                 "iou": [R][R], "frequency": [R][E]}]}

Lists are in the order of `kinds`; experts count from 0; kinds without positions are left out, null = not in this layer.
Letters: L layers (the multi-token layer last), R kinds that occurred, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ernie5.analysis.routing import chance_overlap, chance_spread, frequency, normalised_entropy, overlap, set_size
from ernie5.sequence import Kind

DIGITS = 5
PER_KIND = ("positions", "entropy", "chance_entropy", "peak", "peak_expert", "chance_peak")


@dataclass(frozen=True)
class RoutingStudy:
    """Arrays `L R`, but `iou` `L R R` and `frequency` `L R E`; nan where a kind has no position in a layer."""

    step: int                     # of the checkpoint
    samples: int                  # of every source
    num_experts: int
    top_k: int
    num_layers: int               # of the backbone; one more is the multi-token layer
    kinds: tuple[Kind, ...]
    chance_iou: float
    chance_iou_95: float
    positions: np.ndarray
    entropy: np.ndarray
    chance_entropy: np.ndarray
    peak: np.ndarray
    peak_expert: np.ndarray
    chance_peak: np.ndarray
    iou: np.ndarray
    frequency: np.ndarray

    @property
    def shown(self) -> tuple[int, ...]:
        """First, middle and last layer of the backbone, as in the report's figures."""
        return tuple(sorted({0, self.num_layers // 2, self.num_layers - 1}))

    def layer_name(self, index: int) -> str:
        return f"layer {index + 1}" if index < self.num_layers else "multi-token layer"

    def to_json(self) -> dict[str, Any]:
        """What the module docstring shows."""
        layers = []
        for index in range(len(self.entropy)):
            lists = {name: _plain(getattr(self, name)[index]) for name in (*PER_KIND, "iou", "frequency")}
            layers.append({"name": self.layer_name(index), **lists})
        return {
            "step": self.step, "samples": self.samples, "num_experts": self.num_experts, "top_k": self.top_k, "num_layers": self.num_layers,
            "top_set": set_size(self.num_experts), "kinds": [kind.name.lower() for kind in self.kinds],
            "chance": {"iou": round(self.chance_iou, DIGITS), "iou_95": round(self.chance_iou_95, DIGITS)}, "layers": layers,
        }

    @classmethod
    def from_json(cls, written: Any) -> RoutingStudy:
        """The study of a routing.json; ValueError when it is not one."""
        try:
            kinds = tuple(Kind[name.upper()] for name in written["kinds"])
            arrays = {name: np.array([layer[name] for layer in written["layers"]], dtype=np.float64)
                      for name in (*PER_KIND, "iou", "frequency")}
            study = cls(
                step=int(written["step"]), samples=int(written["samples"]), num_experts=int(written["num_experts"]),
                top_k=int(written["top_k"]), num_layers=int(written["num_layers"]), kinds=kinds,
                chance_iou=float(written["chance"]["iou"]), chance_iou_95=float(written["chance"]["iou_95"]),
                positions=arrays["positions"], entropy=arrays["entropy"], chance_entropy=arrays["chance_entropy"], peak=arrays["peak"],
                peak_expert=arrays["peak_expert"], chance_peak=arrays["chance_peak"], iou=arrays["iou"], frequency=arrays["frequency"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"routing.json is damaged ({type(error).__name__}: {error}); run ernie5 analyze again") from None
        shape = (len(written["layers"]), len(kinds))
        shapes = dict.fromkeys(PER_KIND, shape) | {"iou": (*shape, len(kinds)), "frequency": (*shape, study.num_experts)}
        wrong = [name for name, wanted in shapes.items() if arrays[name].shape != wanted]
        if wrong or not kinds or not 1 <= study.num_layers <= shape[0]:
            raise ValueError(f"routing.json is damaged (shape of {(wrong or ['layers'])[0]}); run ernie5 analyze again")
        return study


def study_of(counts: np.ndarray, top_k: int, num_layers: int, step: int, samples: int) -> RoutingStudy:
    """The study of choices `L R E` over all kinds (`measure_usage`). ValueError when nothing was routed."""
    seen = [kind for kind in Kind if counts[:, kind].sum() > 0]
    if not seen:
        raise ValueError("no position was routed: the training sources hold no sample that can be used")
    counts = counts[:, [int(kind) for kind in seen]]
    num_experts = counts.shape[-1]
    positions = counts.sum(axis=-1) // top_k
    chance = np.array([[chance_spread(int(n), num_experts, top_k) for n in layer] for layer in positions])  # L R 2
    often = frequency(counts, top_k)
    chance_iou, chance_iou_95 = chance_overlap(num_experts)
    return RoutingStudy(
        step=step, samples=samples, num_experts=num_experts, top_k=top_k, num_layers=num_layers, kinds=tuple(seen),
        chance_iou=chance_iou, chance_iou_95=chance_iou_95, positions=positions.astype(np.float64),
        entropy=normalised_entropy(counts), chance_entropy=chance[..., 0], peak=often.max(axis=-1),
        peak_expert=np.where(positions > 0, counts.argmax(axis=-1), np.nan), chance_peak=chance[..., 1],
        iou=overlap(counts), frequency=often,
    )


def _plain(values: np.ndarray) -> list:
    """Lists with null for nan, whole numbers without a point."""
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [None if np.isnan(v) else int(v) if float(v).is_integer() else round(float(v), DIGITS) for v in values]
