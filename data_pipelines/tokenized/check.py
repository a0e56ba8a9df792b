"""Whether a run may train on tokenized shards: their codes must be those that it would make itself, draw by draw.

Ours: all of it. Everything is refused when sources are opened, before anything is trained.
"""

from __future__ import annotations

from ernie5.data_pipelines.augment import AugmentConfig
from ernie5.data_pipelines.encode import Tokenizers
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.data_pipelines.roles import RolesConfig
from ernie5.data_pipelines.tokenized.made_by import Decoding, check_same, made_by
from ernie5.data_pipelines.tokenized.source import TokenizedSource
from ernie5.sequence import Modality

PICTURES = (Modality.IMAGE, Modality.VIDEO)


def check_codes(source: TokenizedSource, tokenizers: Tokenizers, decoding: Decoding) -> None:
    """ValueError naming what made the codes and would not make them now: a tokenizer (both fingerprints) or a setting."""
    now = {modality: made_by(modality, tokenizers, decoding) for modality in Modality}
    for stem, about in zip(source.fingerprints, source.abouts, strict=True):
        for kind, then in about.made_by.items():
            check_same(f"data.sources.{source.name} ({stem}.tar)", Modality(kind), then, now[Modality(kind)])


def check_use(source: TokenizedSource, history: HistoryConfig, roles: RolesConfig, augment: AugmentConfig | None) -> None:
    """ValueError when training needs more than the shards keep: latents, pixels, or the original files."""
    where = f"data.sources.{source.name}"
    for about in source.abouts:
        pictures = [kind for kind in PICTURES if kind.value in about.made_by]
        if pictures and about.keep.bits and history.flip_max > 0:
            raise ValueError(f"data.history.flip_max = {history.flip_max} must be 0 for {where}, whose shards hold bits alone: flipped "
                             "history needs the latents; set it to 0, or tokenize the data without --bits")
        for kind in pictures:
            if not about.keep.understood and roles.generate(kind) < 1:
                raise ValueError(f"data.roles.{kind.value} = {roles.generate(kind)} must be 1 for {where}, whose shards were written with "
                                 "--generate-only and hold no pixels to read; set it to 1, or tokenize the data without that option")
    if augment is None:
        return
    drawn = [name for name, on in (("crop", augment.crop is not None), ("speed", augment.speed > 0)) if on]
    if drawn:
        raise ValueError(f"data.augment.{drawn[0]} makes other media in every draw, and {where} holds codes of one view; "
                         f"set {where}.augment = false, or train on the untokenized shards")
