"""Some samples of every direction to look at and to listen to: thumbnails, short clips and sounds inside the page.

Pictures are made small, clips show their first seconds as the model gets them, sounds their first seconds as 16-bit WAV; all of them are
decoded and encoded again, so nothing of a strange file reaches the browser. Ours.
"""

from __future__ import annotations

from io import BytesIO

import soundfile
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor

from ernie5.data_pipelines.curate.media_headers import open_picture
from ernie5.data_pipelines.decode_media import decode_member
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.sources import Record
from ernie5.data_pipelines.tokenized.source import CodedRecord
from ernie5.data_pipelines.write_shards import Member
from ernie5.inspect.codes import made_again
from ernie5.inspect.open_paths import reopen
from ernie5.inspect.survey import Survey
from ernie5.inspect.walk import Job
from ernie5.report.html import Html, data_uri, el, shorten
from ernie5.report.media import spectrogram
from ernie5.report.report import together
from ernie5.sequence import Modality

SIDE = 240            # pixels of a thumbnail
TEXT = 280            # characters of a text
SEGMENTS = 8          # of a document
SECONDS = 8           # of a sound


def examples(survey: Survey, job: Job) -> Html | None:
    """Cards by direction; None when no sample is whole."""
    parts: list[Html] = []
    for direction, count in survey.directions.most_common():
        cards = []
        for name, config, number in survey.shown(direction):
            try:
                cards.append(card(reopen(name, config).read(number), job))
            except (BadSample, BadMedia):  # it was whole when it was counted
                continue
        parts += [el("h3", direction.replace("->", " → ").replace("+", " + "), el("small", f"{len(cards)} of {count:,}")),
                  el("div", cards, class_="samples docs")]
    lead = el("p", "Chosen by the hash of their ids: the same ones every time.", class_="lead")
    return together(el("h2", "Examples"), lead, *parts) if parts else None


def card(record: Record, job: Job) -> Html:
    """One sample. Raises BadMedia."""
    shown = _coded(record, job) if isinstance(record, CodedRecord) else [_segment(member, job) for member in record.members[:SEGMENTS]]
    left = len(record.members) - SEGMENTS
    attributes = ", ".join(f"{key}: {value}" for key, value in record.attributes.items())
    return el("div", shown, el("p", f"… and {left} more segments") if left > 0 else None,
              el("div", shorten(attributes, 200), class_="attributes") if attributes else None, el("small", shorten(record.id, 120)),
              class_="card sample doc")


def _coded(record: CodedRecord, job: Job) -> list[Html]:
    """What is kept of a tokenized sample, and beside it what its codes decode to, where the tokenizers are known."""
    coded = record.decoded(job.limits)
    shown = []
    for segment, codes in [*zip(coded.sample.segments, coded.codes, strict=True)][:SEGMENTS]:
        kept = segment.media
        if isinstance(kept, Tensor) and kept.numel():
            shown.append(_clip(kept, job.limits.fps))
        elif isinstance(kept, str):
            shown.append(el("p", shorten(kept, TEXT)))
        shown.append(el("small", f"{segment.modality.value} codes {' x '.join(map(str, codes.shape))}"))
        if job.run is not None:
            from ernie5.inspect.tokens import lengths_of  # the model's parts are only needed here

            tokenizers = lengths_of(job.run).tokenizers
            made = made_again(segment, codes, tokenizers)
            if isinstance(made, str):
                shown.append(el("p", shorten(made, TEXT)))
            else:
                sound = segment.modality is Modality.AUDIO
                shown.append(_sound(made, tokenizers.audio.sample_rate_hz) if sound else _clip(made, job.limits.fps))
    return shown


def _segment(member: Member, job: Job) -> Html:
    if member.modality is Modality.IMAGE:
        return _picture(member, job.limits)
    media = decode_member(member, job.limits, job.sample_rate_hz)
    if isinstance(media, str):
        return el("p", shorten(media, TEXT))
    return _clip(media, job.limits.fps) if member.modality is Modality.VIDEO else _sound(media, job.sample_rate_hz)


def _picture(member: Member, limits: MediaLimits) -> Html:
    """The whole picture, upright, at most `SIDE` pixels wide and high."""
    with open_picture(member.data, limits) as opened:
        opened.draft("RGB", (2 * SIDE, 2 * SIDE))
        size = opened.size
        image = ImageOps.exif_transpose(opened).convert("RGBA")
    image.thumbnail((SIDE, SIDE))
    flat = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
    return el("img", class_="shown tiny" if max(size) <= 96 else "shown", src=_uri(flat), alt=f"{size[0]} x {size[1]} pixels")


def _clip(frames: Tensor, fps: float) -> Html:
    """uint8 `t 3 h w` as an animated WEBP."""
    pictures = [Image.fromarray(frame) for frame in rearrange(frames, "t c h w -> t h w c").numpy()]
    small = max(pictures[0].size) <= 96
    if not small:
        for picture in pictures:
            picture.thumbnail((SIDE, SIDE))
    file = BytesIO()
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), lossless=small, quality=70)
    return el("img", class_="shown tiny" if small else "shown", src=data_uri("image/webp", file.getvalue()), alt=f"{len(frames)} frames")


def _sound(wave: Tensor, rate_hz: int) -> Html:
    """float `n`: a spectrogram and a player."""
    samples, file = wave[:SECONDS * rate_hz].numpy(), BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="PCM_16")
    seen = el("img", class_="heard", src=data_uri("image/png", spectrogram(samples, rate_hz)), alt=f"{len(wave) / rate_hz:.2f} s of sound")
    return Html(seen + el("audio", src=data_uri("audio/wav", file.getvalue()), controls=True, preload="metadata"))


def _uri(image: Image.Image) -> str:
    file = BytesIO()
    if max(image.size) <= 96:
        image.save(file, "PNG")
        return data_uri("image/png", file.getvalue())
    image.save(file, "JPEG", quality=80)
    return data_uri("image/jpeg", file.getvalue())
