"""What plain methods make of the same pictures at the bits that the tokenizer spent on each.

    jpeg, webp               at full size; pictures that do not fit are left out, and the tokenizer's figures on the others stand beside
    jpeg_small, webp_small   the best of all sizes, shrunk before and enlarged after
    jpeg_lowest, webp_lowest quality 1 at full size, whatever it costs
    pca                      of pixel blocks, at the whole bits that a block has; fitted on other pictures
`curves`: rate and distortion at fixed qualities, for the plot. How bits are counted: picture_codecs.py, pca.py. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ernie5.measure.pca import BlockPca, fit_pca
from ernie5.measure.picture_codecs import CODECS, at_quality, best_within, lowest
from ernie5.measure.scores import Row, picture_row, summary
from ernie5.measure.vision import Reconstruction
from ernie5.run.progress import Progress

CURVE = (1, 2, 4, 7, 12, 20, 35, 60)
MAX_FITTED = 256


def picture_baselines(done: Sequence[Reconstruction], stride: int, others: Sequence[Tensor], bar: Progress) -> tuple[dict, dict]:
    """Figures by baseline, and its pictures by name of the medium. `others`: pictures to fit PCA on; none: half of `done` for the other."""
    rows: dict[str, list[tuple[Row, Row]]] = {}
    curves: dict[str, list[list[Row]]] = {name: [[] for _ in CURVE] for name in CODECS}
    pictures: dict[str, dict[str, Tensor]] = {}

    def note(baseline: str, of: Reconstruction, picture: Tensor, bits: float) -> None:
        rows.setdefault(baseline, []).append((picture_row(of.original, picture, bits), of.row))
        pictures.setdefault(of.name, {})[baseline] = picture

    for item in done:
        for name in CODECS:
            for baseline, shrink in ((name, False), (f"{name}_small", True)):
                if coded := best_within(name, item.original, item.bits, shrink=shrink):
                    note(baseline, item, coded.picture, coded.bits)
            coded = lowest(name, item.original)
            note(f"{name}_lowest", item, coded.picture, coded.bits)
            for quality, at in zip(CURVE, curves[name], strict=True):
                coded = at_quality(name, item.original, quality)
                at.append(picture_row(item.original, coded.picture, coded.bits))
        bar.advance(1)
    fitted = _pca(done, stride, others, note)
    result = {name: {**summary([row for row, _ in pairs]), "tokenizer": summary([own for _, own in pairs])} for name, pairs in rows.items()}
    if "pca" in result:
        result["pca"]["fitted_on"] = fitted
    return {**result, "curves": {name: [{"quality": q, **summary(r)} for q, r in zip(CURVE, at, strict=True)]
                                 for name, at in curves.items()}}, pictures


def _pca(done: Sequence[Reconstruction], stride: int, others: Sequence[Tensor], note) -> str:
    """Every picture by a coder that never saw it, at the mean bits of a block of its group."""
    if others:
        groups = [(list(others[:MAX_FITTED]), list(done))]
        told = f"{len(groups[0][0])} training pictures"
    else:
        even, odd = list(done[::2]), list(done[1::2])
        groups = [([r.original for r in odd], even), ([r.original for r in even], odd)]
        told = "the other half of these pictures"
    for fit_on, measured in groups:
        if not fit_on:
            return "nothing: a single picture has no others"
        coders: dict[int, BlockPca] = {}
        for item in measured:
            num_blocks = item.original.shape[2] // stride * (item.original.shape[3] // stride)
            bits = item.bits // num_blocks
            if bits not in coders:
                coders[bits] = fit_pca(fit_on, stride, bits)
            coder = coders[bits]
            note("pca", item, coder.reconstruct(item.original), coder.bits * num_blocks)
    return told
