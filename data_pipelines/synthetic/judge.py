"""The judges of the demo world behind one name, and the score of what they (or a captioner) answered.

    accuracy = share of media whose attributes are all right at once      chance = accuracy of the best constant answer
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from torch import Tensor

from ernie5.data_pipelines.synthetic.combinations import ATTRIBUTES, KINDS
from ernie5.data_pipelines.synthetic.find_object import UNCLEAR
from ernie5.data_pipelines.synthetic.judge_clip import judge_clips
from ernie5.data_pipelines.synthetic.judge_image import judge_images
from ernie5.data_pipelines.synthetic.judge_sound import judge_sounds


def judge(kind: str, media: Sequence[Tensor]) -> list[dict[str, str]]:
    """The attributes seen or heard in each medium: image uint8 `1 c h w`, video uint8 `t c h w`, audio float `n` at 16 kHz.

    A value is "unclear" where the medium shows nothing the judge knows. Sizes and lengths may differ, as generated media do.
    """
    if kind not in ATTRIBUTES:
        raise ValueError(f"kind = {kind!r} has no judge; use one of {', '.join(KINDS)}")
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, medium in enumerate(media):
        alike.setdefault(tuple(medium.shape), []).append(i)
    answers: dict[int, dict[str, str]] = {}
    for places in alike.values():
        answers |= zip(places, _judge_alike(kind, torch.stack([media[i] for i in places])), strict=True)
    return [answers[i] for i in range(len(media))]


def _judge_alike(kind: str, media: Tensor) -> list[dict[str, str]]:
    if media.numel() == 0:
        return [dict.fromkeys(ATTRIBUTES[kind], UNCLEAR)] * len(media)
    match kind:
        case "image":
            return judge_images(rearrange(media, "n 1 c h w -> n c h w"))
        case "video":
            return judge_clips(media)
        case "audio":
            return judge_sounds(media)
    raise AssertionError(kind)


def score(predictions: Sequence[Mapping[str, str] | None], truths: Sequence[Mapping[str, str]]) -> dict:
    """`{"accuracy", "chance", "per_attribute": {attribute: accuracy}, "n"}`; a prediction of None is wrong in everything.

    A prediction may name other keys too (sample attributes do); truths all name the same attributes.
    """
    if len(predictions) != len(truths) or not truths:
        raise ValueError(f"{len(predictions)} predictions for {len(truths)} truths; give one each, and at least one")
    attributes = list(truths[0])
    answers = [tuple((p or {}).get(a) for a in attributes) for p in predictions]
    wanted = [tuple(t[a] for a in attributes) for t in truths]
    n = len(wanted)
    return {
        "accuracy": sum(a == w for a, w in zip(answers, wanted, strict=True)) / n,
        "chance": max(Counter(wanted).values()) / n,
        "per_attribute": {name: sum(a[i] == w[i] for a, w in zip(answers, wanted, strict=True)) / n for i, name in enumerate(attributes)},
        "n": n,
    }
