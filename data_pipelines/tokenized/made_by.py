"""What decides the codes of a medium: its tokenizer, and every setting under which the medium is decoded before.

    made_by(Modality.IMAGE, …) -> {"tokenizer": fingerprint, "sizes": {"bits": 8, …}, "settings": {"data.limits.image_size": [32, 32], …}}

Shards carry it for the kinds of media that they hold. Training compares it with its own: equal, or the codes are refused. Settings
that can refuse a sample count too, since a sample more or less is another batch.
Ours: all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ernie5.data_pipelines.encode import Tokenizers
from ernie5.data_pipelines.media_limits import MediaLimits, VisionSize
from ernie5.data_pipelines.speaker import SpeakerConfig
from ernie5.sequence import Modality

_LIMITS = {
    Modality.TEXT: ("max_text_bytes",),
    Modality.IMAGE: ("image_size", "max_bytes", "max_pixels"),
    Modality.VIDEO: ("video_size", "fps", "num_frames", "temporal_stride", "max_bytes", "max_pixels", "max_frames", "max_seconds"),
    Modality.AUDIO: ("audio_seconds", "max_bytes", "max_seconds", "max_channels"),
}
SIZES = {
    Modality.TEXT: ("vocab_size",),
    Modality.IMAGE: ("bits", "stride", "feature_dim"),
    Modality.VIDEO: ("bits", "stride", "temporal_stride", "feature_dim"),
    Modality.AUDIO: ("num_codebooks", "codebook_size", "frame_rate_hz"),
}
RATE = "tokenizers.audio.codec.sample_rate_hz"


@dataclass(frozen=True)
class Decoding:
    """How media are decoded before they are encoded. `buckets`: sizes that images may have beside `limits.image_size`. `speaker`: where
    the vectors of who speaks come from, which are kept beside the codes.
    """

    limits: MediaLimits
    sample_rate_hz: int
    buckets: tuple[VisionSize, ...] = ()
    speaker: SpeakerConfig = SpeakerConfig()


def kind_of(modality: Modality) -> str:
    """Which tokenizer: `text`, `vision` or `audio`."""
    return "vision" if modality in (Modality.IMAGE, Modality.VIDEO) else modality.value


def made_by(modality: Modality, tokenizers: Tokenizers, decoding: Decoding) -> dict:
    """Plain values, as JSON gives them back."""
    tokenizer = tokenizers.of(modality)
    sizes = {name: getattr(tokenizers.vision.quantizer if name == "bits" else tokenizer, name) for name in SIZES[modality]}
    settings: dict[str, object] = {f"data.limits.{name}": _plain(getattr(decoding.limits, name)) for name in _LIMITS[modality]}
    if modality is Modality.IMAGE:
        settings["data.augment.aspect_buckets"] = [_plain(size) for size in decoding.buckets]
    if modality is Modality.AUDIO:
        settings[RATE] = decoding.sample_rate_hz
        settings |= {f"data.speaker.{name}": value for name, value in asdict(decoding.speaker).items()}
    return {"tokenizer": tokenizer.fingerprint, "sizes": sizes, "settings": settings}


def check_same(where: str, modality: Modality, then: Mapping, now: Mapping) -> None:
    """ValueError naming the first difference between what made the codes at `where` and what this run would make them with."""
    if then.get("tokenizer") != now["tokenizer"]:
        raise ValueError(
            f"{where} holds codes of the {kind_of(modality)} tokenizer {str(then.get('tokenizer'))[:40]}, this run has {now['tokenizer']}; "
            "take the tokenizers that made them (run.tokenizers = their run), tokenize the data anew, or train on the untokenized shards")
    settings = then.get("settings")
    for key, value in now["settings"].items():
        before = settings.get(key) if isinstance(settings, dict) else None
        if before != value:
            raise ValueError(f"{key} = {value} must be {str(before)[:80]}, with which the {modality.value} codes of {where} were made; "
                             "put it back, tokenize the data anew, or train on the untokenized shards")
    if then != now:  # sizes follow from the fingerprint: what says otherwise lies
        raise ValueError(f"{where} does not describe its {modality.value} codes as this version does; tokenize the data anew")


def _plain(value: object) -> object:
    return [value.height, value.width] if isinstance(value, VisionSize) else value
