"""Both directions on held-out combinations, judged on decoded pixels and waveforms by plain signal code.

    text -> medium:   caption -> generated medium -> judge -> all attributes right?     ceiling: the judge on reconstructions of real media
    medium -> text:   medium -> generated caption -> parsed -> all attributes right?    ceiling: 1

Works on sources whose samples carry `kind` and attributes (the demo world).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ernie5.data_pipelines.roles import text_and_medium
from ernie5.data_pipelines.synthetic.captions import parse_caption
from ernie5.data_pipelines.synthetic.judge import judge, score
from ernie5.generate.choose import Sampling
from ernie5.generate.generator import Generator
from ernie5.run.progress import Progress
from ernie5.sequence import Modality, Sample, Segment
from ernie5.tokenizers.vision.bit_series import first_bits
from ernie5.train.prepare import Corpus

log = logging.getLogger(__name__)
KINDS = {"image": Modality.IMAGE, "video": Modality.VIDEO, "audio": Modality.AUDIO}


@dataclass(frozen=True)
class Made:
    """One judged result, for the report: what was asked, what came out, what the judge said."""

    prompt: str | Tensor
    made: str | Tensor
    wanted: dict[str, str]
    judged: dict[str, str] | None


def judged_samples(corpus: Corpus, kind: str, at_most: int) -> list[Sample]:
    """Held-out samples of one kind that the judges understand: a text, then one medium."""
    if kind not in corpus.sources:
        return []
    found = []
    for index in range(min(at_most, len(corpus.sources[kind]))):
        try:
            sample = corpus.sample(kind, index)
        except ValueError as damage:
            log.warning("left out of the evaluation: %s", damage)
            continue
        found += [sample] if sample.attributes.get("kind") == kind else []
    return found


def wanted(sample: Sample) -> dict[str, str]:
    return {k: str(v) for k, v in sample.attributes.items() if k != "kind"}


def text_to_medium(
    generator: Generator, kind: str, samples: Sequence[Sample], sampling: Sampling, batch: int, bar: Progress
) -> tuple[dict, list[Made]]:
    """The row `text_to_KIND` and what was made."""
    captions = [text_and_medium(s)[0] for s in samples]
    speakers = [text_and_medium(s)[1].speaker for s in samples]
    media: list[Any] = []
    for number, (part, who) in enumerate(zip(chunks(captions, batch), chunks(speakers, batch), strict=True)):
        media += generator.generate([[caption] for caption in part], KINDS[kind], sampling, seed=number, speakers=who)
        bar.advance(len(part), row=f"text_to_{kind}")
    found, truth = judge_all(kind, media), [wanted(s) for s in samples]
    row = score(found, truth)
    ceiling = score(judge_all(kind, [reconstruct(generator, text_and_medium(s)[1]) for s in samples]), truth)
    row["ceiling"], row["ceiling_per_attribute"] = ceiling["accuracy"], ceiling["per_attribute"]
    return row, [Made(c.media, m, w, j) for c, m, w, j in zip(captions, media, truth, found, strict=True)]


def medium_to_text(generator: Generator, kind: str, samples: Sequence[Sample], batch: int, bar: Progress) -> tuple[dict, list[Made]]:
    """The row `KIND_to_text` (likeliest text) and what was written."""
    media = [text_and_medium(s)[1] for s in samples]
    texts: list[Any] = []
    for number, part in enumerate(chunks(media, batch)):
        texts += generator.generate([[medium] for medium in part], Modality.TEXT, Sampling(temperature=0.0), seed=number)
        bar.advance(len(part), row=f"{kind}_to_text")
    found, truth = [parse_caption(kind, text) for text in texts], [wanted(s) for s in samples]
    row = score(found, truth) | {"ceiling": 1.0}
    return row, [Made(m.media, t, w, j) for m, t, w, j in zip(media, texts, truth, found, strict=True)]


def judge_all(kind: str, media: Sequence[Tensor]) -> list[dict[str, str]]:
    """What the judge sees in each medium; it takes media of one size, and a model makes clips and sounds of any length."""
    found: dict[int, dict[str, str]] = {}
    for shape in {medium.shape for medium in media}:
        alike = [i for i, medium in enumerate(media) if medium.shape == shape]
        found |= zip(alike, judge(kind, [media[i] for i in alike]), strict=True)
    return [found[i] for i in range(len(media))]


def reconstruct(generator: Generator, segment: Segment) -> Tensor:
    """A real medium through its tokenizer and back, in the bits that are on."""
    if segment.modality is Modality.AUDIO:
        return generator.tokenizers.audio.decode(generator.tokenizers.audio.encode(segment.media))
    vision = generator.tokenizers.vision
    return vision.decode(first_bits(vision.quantizer.encode(vision.encode(segment.media).latent).total, generator.widths.bits))


def chunks(items: Sequence, size: int) -> Iterator[Sequence]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
