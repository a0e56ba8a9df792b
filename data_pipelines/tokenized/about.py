"""What the index of a tokenized shard says of its codes (`"codes"` in NAME.index.json), believed only as far as it can be checked.

    {"format": 1, "stamp": of the whole job, also in every sample, "shard": [number, of how many], "keep": {bits, understood},
     "made_by": {kind of medium: see made_by.py}, "num_samples": …, "num_rejected": …, "bytes": {"before": …, "text": …, …}}
Ours: the format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ernie5.data_pipelines.tokenized.codes import Keep
from ernie5.data_pipelines.tokenized.made_by import SIZES
from ernie5.sequence import Modality

FORMAT = 1


@dataclass(frozen=True)
class About:
    """One shard's codes. `made_by`: by modality, of those that it holds. `bytes`: by what they are of, `before` in the original files."""

    stamp: str
    shard: tuple[int, int]
    keep: Keep
    made_by: Mapping[str, dict]
    num_samples: int = 0
    num_rejected: int = 0
    bytes: Mapping[str, int] = field(default_factory=dict)

    def plain(self) -> dict:
        """For the index."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def parse(cls, where: str, text: str) -> "About":
        """From an index. ValueError naming the shard when it cannot be."""
        try:
            found = json.loads(text)
            if found["format"] != FORMAT:
                raise ValueError(f"format {found['format']!r} is not {FORMAT}")
            number, count = found["shard"]
            keep = Keep(**found["keep"])
            if not all(isinstance(value, bool) for value in vars(keep).values()):
                raise ValueError("keep is not true or false")
            if not all(type(n) is int for n in (number, count)) or not 0 <= number < count:
                raise ValueError(f"there is no shard {number} of {count}")
            for kind, made in found["made_by"].items():
                if not isinstance(made["settings"], dict) or not isinstance(made["tokenizer"], str):
                    raise ValueError(f"{kind} has no settings or no tokenizer")
                for name in SIZES[Modality(kind)]:
                    size = made["sizes"][name]
                    if type(size) not in (int, float if name.endswith("_hz") else int) or not 0 < size < 2**31:
                        raise ValueError(f"{name} of {kind} is no count")
            return cls(str(found["stamp"]), (number, count), keep, dict(found["made_by"]), int(found["num_samples"]),
                       int(found["num_rejected"]), {str(k): int(v) for k, v in found["bytes"].items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{where} does not say what made its codes ({type(error).__name__}: {error}); restore its index, or tokenize "
                             "the data anew") from None
