"""Tokenized shards as `data verify` and `data inspect` see them: facts of the codes, what made them, and what they decode to.

Without tokenizers: sizes, and the pixels and texts that are kept. With those of the run that made the codes: ids as text, pictures
through quantizer and decoder, sounds. Ours.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ernie5.data_pipelines.directions import direction
from ernie5.data_pipelines.encode import CodedSample, Tokenizers
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.scale_codes import scale_codes
from ernie5.data_pipelines.tokenized.made_by import kind_of
from ernie5.data_pipelines.tokenized.source import CodedRecord, TokenizedSource
from ernie5.data_pipelines.write_shards import Member
from ernie5.inspect.examine import Facts, Part, script_of
from ernie5.inspect.open_paths import Opened, reopen
from ernie5.sequence import Modality, Segment
from ernie5.tokenizers.base import VisionBits, VisionCodes


def examine_codes(record: CodedRecord, limits: MediaLimits) -> tuple[Facts, CodedSample]:
    """Facts of a tokenized sample. `num_bytes` of a segment: what is kept of it, its codes included. Raises BadSample."""
    coded = record.decoded(limits)
    together = zip(record.members, coded.sample.segments, coded.codes, strict=True)
    parts = tuple(_part(member, segment, code, record.about.made_by) for member, segment, code in together)
    return Facts(record.id, direction(coded.sample.segments), parts, tuple(sorted(record.attributes))), coded


def _part(member: Member, segment: Segment, code: Tensor | VisionCodes | VisionBits, made: Mapping[str, dict]) -> Part:
    settings, sizes = made[segment.modality.value]["settings"], made[segment.modality.value]["sizes"]
    tensors = [code] if isinstance(code, Tensor) else [*vars(code).values()]
    size = len(member.data) + sum(t.numel() * (2 if t.dtype == torch.int64 else t.element_size()) for t in tensors)
    if segment.modality is Modality.TEXT:
        text = str(segment.media)
        return Part(segment.modality, "ids", size, characters=len(text), words=len(text.split()), script=script_of(text))
    if isinstance(code, Tensor):
        return Part(segment.modality, "codes", size, seconds=len(code) / sizes["frame_rate_hz"])
    assert isinstance(segment.media, Tensor)
    frames, _, height, width = segment.media.shape
    form = ("latents" if isinstance(code, VisionCodes) else "bits") + (" and pixels" if member.data else "")
    fps = settings.get("data.limits.fps")
    seconds = frames / fps if segment.modality is Modality.VIDEO and isinstance(fps, int | float) and fps > 0 else None
    return Part(segment.modality, form, size, height, width, seconds)


def told_codes(opened: Opened) -> Iterator[str]:
    """A line for each tokenized source and kind of medium: which tokenizer made its codes."""
    for name, config, _ in opened.sources:
        source = reopen(name, config)
        if isinstance(source, TokenizedSource):
            made = {(kind, str(then["tokenizer"])) for about in source.abouts for kind, then in about.made_by.items()}
            yield f"{name}: codes of " + ", ".join(f"{kind} by {_plain(tokenizer)}" for kind, tokenizer in sorted(made))


def check_tokenizers(opened: Opened, tokenizers: Tokenizers) -> None:
    """ValueError naming both fingerprints when codes of a tokenized source were made by another tokenizer."""
    for name, config, _ in opened.sources:
        source = reopen(name, config)
        for about in source.abouts if isinstance(source, TokenizedSource) else ():
            for kind, then in about.made_by.items():
                now = getattr(tokenizers.of(Modality(kind)), "fingerprint")  # noqa: B009
                if then["tokenizer"] != now:
                    then_name = f"{kind_of(Modality(kind))} tokenizer {_plain(str(then['tokenizer']))}"
                    raise ValueError(f"{name} holds codes of the {then_name}, the run has {now}; give --tokenizers the run that made "
                                     "them, or leave it out")


def made_again(segment: Segment, code: Tensor | VisionCodes | VisionBits, tokenizers: Tokenizers) -> str | Tensor:
    """What the codes decode to: text, uint8 `t c h w`, float `n`. ValueError for codes that these tokenizers cannot have made."""
    if isinstance(code, Tensor):
        made: str | Tensor = tokenizers.of(segment.modality).decode(code)
        return made
    return tokenizers.vision.decode(scale_codes(tokenizers.vision.quantizer, code).total)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() and unicodedata.category(c) != "Zs" else "?" for c in text[:40])
