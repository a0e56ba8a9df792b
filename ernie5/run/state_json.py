"""The small state beside the tensors (counters, sampler positions …) as JSON that reads back as it was written.

Tuples come back as lists. Secrets are masked, with a warning: a checkpoint travels further than the machine that wrote it.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from typing import TypeAlias

from ernie5.run.secrets import HIDDEN, masker, names_secret

log = logging.getLogger(__name__)

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | dict[str, JSON]"


def encode_state(state: dict[str, JSON]) -> bytes:
    """UTF-8 JSON. ValueError naming the key whose value JSON would change or lose (inf, nan, other types, keys that are no strings)."""
    return json.dumps(_plain(state, "state", masker()), indent=1, allow_nan=False).encode()


def decode_state(data: bytes) -> dict[str, JSON]:
    """The reverse of `encode_state`."""
    state = json.loads(data)
    if not isinstance(state, dict):
        raise ValueError(f"the state must be a JSON object, got {type(state).__name__}")
    return state


def _plain(value: object, where: str, mask: Callable[[str], str]) -> JSON:
    if isinstance(value, str):
        masked = mask(value)
        if masked != value:
            log.warning("%s holds a secret; the checkpoint keeps %s in its place", where, HIDDEN)
        return masked
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}; JSON has no such number")
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]", mask) for i, item in enumerate(value)]
    if isinstance(value, dict):
        plain: dict[str, JSON] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}; JSON keys are strings, so it would not come back as it was")
            if names_secret(key) and isinstance(item, str) and item not in ("", HIDDEN):
                log.warning("%s.%s is named like a secret; the checkpoint keeps %s in its place", where, key, HIDDEN)
                item = HIDDEN
            plain[key] = _plain(item, f"{where}.{key}", mask)
        return plain
    raise ValueError(f"{where} is a {type(value).__name__}; use str, int, float, bool, None, list or dict (and tensors for arrays)")
