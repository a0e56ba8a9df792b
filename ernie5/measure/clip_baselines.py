"""What H.264 makes of the same clips at the bits that the tokenizer spent on each.

    h264          at full size; clips that do not fit are left out, and the tokenizer's figures on the others stand beside
    h264_small    the best of all sizes, shrunk before and enlarged after
    h264_lowest   the largest rate factor at full size, whatever it costs
`curves`: rate and distortion at fixed rate factors. How bits are counted: clip_codecs.py. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ernie5.measure.clip_codecs import CodedClip, at_crf, best_clip
from ernie5.measure.scores import Row, picture_row, summary
from ernie5.measure.vision import Reconstruction
from ernie5.run.progress import Progress

CURVE = (51, 46, 41, 36, 31, 26)


def clip_baselines(done: Sequence[Reconstruction], bar: Progress) -> tuple[dict, dict[str, dict[str, Tensor]]]:
    """Figures by baseline, and its clips by name of the medium."""
    rows: dict[str, list[tuple[Row, Row]]] = {}
    curve: list[list[Row]] = [[] for _ in CURVE]
    clips: dict[str, dict[str, Tensor]] = {}

    def note(baseline: str, of: Reconstruction, coded: CodedClip | None) -> None:
        if coded is not None:
            rows.setdefault(baseline, []).append((picture_row(of.original, coded.clip, coded.bits), of.row))
            clips.setdefault(of.name, {})[baseline] = coded.clip

    for item in done:
        note("h264", item, best_clip(item.original, item.bits))
        note("h264_small", item, best_clip(item.original, item.bits, shrink=True))
        coded = [at_crf(item.original, crf) for crf in CURVE]
        note("h264_lowest", item, coded[0])
        for at, one in zip(curve, coded, strict=True):
            at.append(picture_row(item.original, one.clip, one.bits))
        bar.advance(1)
    result = {name: {**summary([row for row, _ in pairs]), "tokenizer": summary([own for _, own in pairs])} for name, pairs in rows.items()}
    return {**result, "curves": {"h264": [{"crf": crf, **summary(r)} for crf, r in zip(CURVE, curve, strict=True)]}}, clips
