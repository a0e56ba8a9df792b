"""What decode_pack.py measures: a mixed corpus in shards, the plain decoders, and a loader whose neural tokenizers are stand-ins.

    images   256 - 512 pixels, JPEG (3 of 4) and PNG, noise with the spectrum of photographs, with captions       -> 256 x 256
    clips    2 s of H.264, 640 x 360, 24 frames a second, with captions                                          -> 9 x 128 x 128
    sounds   5 s at 44.1 kHz, WAV and FLAC, one and two channels, with captions                                   -> 5 s at 16 kHz
    texts    pages of log-normal length, words by Zipf's law

A plain decoder is the same library with the same settings on the same bytes, without any check. Pictures and sounds are few and stand in
the shards many times, under different keys, because making them takes longer than decoding them.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
import torch
from decoding import clip, photo
from PIL import Image
from torch import Tensor

from ernie5.data_pipelines.collate import Widths
from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.encode import Encoder, Tokenizers
from ernie5.data_pipelines.grouping import Grouping
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.data_pipelines.loader import Loader, SampleMaker, StreamConfig
from ernie5.data_pipelines.media_limits import MediaLimits, VisionSize
from ernie5.data_pipelines.mixture import Mixture
from ernie5.data_pipelines.roles import RolesConfig
from ernie5.data_pipelines.sources import ShardSource
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.sequence import Modality, Sample
from ernie5.tokenizers.base import ScaleCodes, VisionCodes
from ernie5.tokenizers.text import Utf16Tokenizer
from ernie5.tokenizers.text_training import train_text_tokenizer
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer

LIMITS = MediaLimits(image_size=VisionSize(256, 256), video_size=VisionSize(128, 128), num_frames=9, audio_seconds=5.0)
RATE_HZ, FRAME_RATE_HZ, STRIDE = 16000, 12.5, 16
BITS, CODEBOOKS, CODEBOOK_SIZE, FEATURES = 16, 3, 256, 64
WIDTHS = Widths(BITS, CODEBOOKS, FEATURES, patch=STRIDE)
SHARES = {"image": 0.4, "clip": 0.04, "sound": 0.16, "text": 0.4}  # of the samples


class Words:
    """Sentences of made-up words."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        syllables = [a + b for a in "bdfgklmnprstv" for b in "aeiou"]
        self.words = ["".join(self.random.choice(syllables, self.random.integers(1, 5))) for _ in range(20_000)]

    def text(self, num_words: int) -> str:
        """Words by Zipf's law, a full stop now and then."""
        ranks = np.minimum(self.random.zipf(1.2, num_words), len(self.words)) - 1
        return " ".join(self.words[rank] + "." * (i % 11 == 10) for i, rank in enumerate(ranks))


def sound(kind: str, number: int, seconds: int = 5, rate_hz: int = 44100) -> bytes:
    """Falling tones and noise; every second one has two channels."""
    time_s = np.arange(seconds * rate_hz) / rate_hz
    wave = 0.3 * np.sin(300 * (number + 5) * np.sqrt(time_s + 1)) + 0.05 * np.random.default_rng(number).normal(size=len(time_s))
    file = io.BytesIO()
    soundfile.write(file, np.stack([wave, wave[::-1]], 1) if number % 2 else wave, rate_hz, format=kind)
    return file.getvalue()


def write(folder: Path, num_samples: int) -> None:
    """A folder of shards for each of SHARES, and a text tokenizer."""
    words = Words(0)
    train_text_tokenizer((words.text(400) for _ in range(300)), 8192).save(folder / "tokenizer")
    kinds = {
        "image": [(ending, photo(side, kind, n)) for n, side in enumerate((256, 320, 384, 512))
                  for ending, kind in (("jpg", "JPEG"), ("jpg", "JPEG"), ("jpg", "JPEG"), ("png", "PNG"))],
        "clip": [("mp4", clip(n)) for n in range(4)],
        "sound": [(k.lower(), sound(k, n)) for n in range(4) for k in ("WAV", "FLAC")],
    }
    for name, share in SHARES.items():
        with ShardWriter(folder / name, name, samples_per_shard=200) as writer:
            for i in range(round(share * num_samples)):
                long = name == "text"
                count = int(np.clip(words.random.lognormal(np.log(300 if long else 20), 0.8), 3, 4000))
                members = [Member(Modality.TEXT, "txt", words.text(count).encode())]
                if not long:
                    ending, data = kinds[name][i % len(kinds[name])]
                    members.append(Member(Modality("video" if name == "clip" else "audio" if name == "sound" else name), ending, data))
                writer.write(f"{i:06d}", members, {"language": "xx"})


def plain_image(data: bytes) -> np.ndarray:
    """`h w c`: drafted, decoded, cropped and scaled by Pillow."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        image.draft(None, (512, 512))
        image.load()
        return np.asarray(image.resize((256, 256), Image.Resampling.LANCZOS, box=_square(image)))


def plain_clip(data: bytes) -> np.ndarray:
    """`t h w c`: every third of the first 25 frames by FFmpeg, each cropped and scaled by Pillow."""
    options, chosen = {"threads": "1"}, []
    with av.open(io.BytesIO(data), format="mov", options=options) as container:
        container.streams.video[0].thread_type = "NONE"
        for number, frame in enumerate(container.decode(video=0)):
            if number % 3 == 0:
                image = Image.fromarray(frame.to_ndarray(format="rgb24"))
                chosen.append(np.asarray(image.resize((128, 128), Image.Resampling.LANCZOS, box=_square(image))))
            if len(chosen) == LIMITS.num_frames:
                return np.stack(chosen)
    raise ValueError("a clip of this corpus has 48 frames")


def plain_sound(data: bytes) -> np.ndarray:
    """`n`: read by libsndfile, channels averaged, resampled by soxr."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        samples = file.read(math.ceil(5.1 * file.samplerate), dtype="float32")
        mono = samples
        if samples.ndim == 2:
            mono = samples[:, 0] + samples[:, 1]  # numpy's mean over so short an axis is slow
            mono /= 2
        return soxr.resample(mono, file.samplerate, RATE_HZ)[:5 * RATE_HZ]


def _square(image: Image.Image) -> tuple[float, float, float, float]:
    side = min(image.width, image.height)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return (left, top, left + side, top + side)


PLAIN = {Modality.IMAGE: plain_image, Modality.VIDEO: plain_clip, Modality.AUDIO: plain_sound}


class KnownVision:
    """Codes of the right shape that cost nothing; also its own quantizer, unless `real`."""

    modality = Modality.IMAGE
    bits, stride, temporal_stride, feature_dim = BITS, STRIDE, 4, FEATURES

    def __init__(self, real: bool = False) -> None:
        self.residual = MultiscaleResidualQuantizer(num_scales=5, bits=BITS).eval()
        self.quantizer = self.residual if real else self
        self.scales = self.residual.scales
        self.made: dict[tuple[int, ...], VisionCodes] = {}
        self.coded: dict[tuple[int, ...], ScaleCodes] = {}

    def encode(self, media: Tensor, flips: object = None) -> VisionCodes | ScaleCodes:
        """Of a tokenizer: uint8 `t c h w` -> VisionCodes. Of a quantizer: latent `n d h w` -> ScaleCodes."""
        shape = tuple(media.shape)
        if media.dtype != torch.uint8:
            if shape not in self.coded:
                self.coded[shape] = self.residual.encode(media)
            return self.coded[shape]
        if shape not in self.made:
            frames, sides = shape[0], (shape[2] // STRIDE, shape[3] // STRIDE)
            self.made[shape] = VisionCodes(torch.randn(1 + (frames - 1) // 4, BITS, *sides), torch.randn(frames, FEATURES, *sides))
        return self.made[shape]


class KnownAudio:
    """Codes of the right shape that cost nothing."""

    modality = Modality.AUDIO
    codes = torch.arange(600 * CODEBOOKS).reshape(-1, CODEBOOKS) % CODEBOOK_SIZE

    def encode(self, media: Tensor) -> Tensor:
        """float `n` -> codes `f Q`."""
        return self.codes[:math.ceil(len(media) / RATE_HZ * FRAME_RATE_HZ)]


def open_sources(folder: Path) -> dict[str, ShardSource]:
    """The sources by name."""
    return {name: ShardSource(name, folder / name) for name in SHARES}


def make_loader(sources: dict[str, ShardSource], text: Utf16Tokenizer, vision: KnownVision, window: int) -> Loader:
    """One epoch over the sources, with history corruption as in training."""

    def read(source: str, index: int) -> Sample:
        return decode_record(sources[source].read(index), LIMITS, RATE_HZ)

    def reject(key: str, reason: str) -> None:
        raise ValueError(f"{key}: {reason}")

    grouping = Grouping(vision.quantizer, CODEBOOKS, CODEBOOK_SIZE, HistoryConfig(), prompt_weight=0.3)
    maker = SampleMaker(read, reject, lambda: None, Encoder(Tokenizers(text, vision, KnownAudio())), grouping, RolesConfig(), seed=0)
    sizes = {name: len(source) for name, source in sources.items()}
    mixture = Mixture(sizes, {name: float(size) for name, size in sizes.items()}, seed=0, epochs=dict.fromkeys(sizes, 1.0))
    return Loader(maker, mixture, WIDTHS, config=StreamConfig(window=window))
