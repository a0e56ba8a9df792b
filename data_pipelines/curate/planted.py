"""A corpus in which it is known what a curation should find: planted copies, contaminated and damaged samples among distinct controls.

    folder/corpus/    shards, in random order        folder/eval/    the eval set
    key = {kind}-{i}-o (original) or -c (copy); control-text-{i}, control-image-{i}; contaminated-{text,image}-{i}; damaged-{i}

`measure` compares a curation's rejects with this. Ours: all of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile

from ernie5.data_pipelines.curate.planted_images import CHANGES, changed, encoded, real_picture
from ernie5.data_pipelines.curate.planted_texts import edited, real_text, restyled
from ernie5.data_pipelines.synthetic.combinations import all_combinations
from ernie5.data_pipelines.synthetic.render_sound import SAMPLE_RATE_HZ, render_sound
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality

PAIRS = ("exact_text", "exact_bytes", "exact_pixels", "exact_sound", "near_text", *(f"near_{change}" for change in CHANGES))
Stored = tuple[str, tuple[Member, ...]]


@dataclass(frozen=True)
class Found:
    """Of `planted` things of a kind, how many the curation found, and how many things it lost (an original together with its copy)."""

    planted: int
    found: int
    lost: int

    @property
    def recall(self) -> float:
        """Share of what was planted that was found."""
        return self.found / max(1, self.planted)


def write_planted(folder: Path, pairs: int, controls: int, seed: int = 0, samples_per_shard: int = 100, edits: int = 2) -> None:
    """`pairs` originals with one copy of each kind, as many contaminated and damaged samples, `controls` distinct texts and pictures.

    A near copy of a text has 1 to `edits` words changed.
    """
    samples: list[Stored] = []
    for kind in PAIRS:
        for i in range(pairs):
            original, copy = _pair(kind, stream(seed, kind, i), edits)
            samples += [(f"{kind}-{i}-o", original), (f"{kind}-{i}-c", copy)]
    samples += [(f"control-text-{i}", (_text(real_text(stream(seed, "control text", i))),)) for i in range(controls)]
    samples += [(f"control-image-{i}", _picture(encoded(real_picture(stream(seed, "control image", i)), "PNG"), f"sheet {i}"))
                for i in range(controls)]
    evals: list[Stored] = []
    for i in range(pairs):
        random = stream(seed, "eval", i)
        asked, picture = real_text(random), real_picture(random)
        evals += [(f"text-{i}", (_text(asked),)), (f"image-{i}", _picture(encoded(picture, "PNG"), ""))]
        around = f"{real_text(random)} {edited(asked, random, 1)} {real_text(random)}"
        samples.append((f"contaminated-text-{i}", (_text(around),)))
        samples.append((f"contaminated-image-{i}", _picture(changed(picture, CHANGES[i % len(CHANGES)], random), f"leaf {i}")))
        extension, file = encoded(picture, "JPEG")
        samples.append((f"damaged-{i}", _picture((extension, file[:len(file) // 2]), "half a picture")))
    order = stream(seed, "order").permutation(len(samples))
    for name, chosen in (("corpus", [samples[i] for i in order]), ("eval", evals)):
        with ShardWriter(folder / name, name, samples_per_shard) as writer:
            for key, members in chosen:
                writer.write(key, members, {})


def measure(rejects: Path, pairs: int, controls: int) -> dict[str, Found]:
    """What a curation of the corpus found, by kind; `lost` of "control-text" and "control-image" are distinct samples dropped."""
    gone = {json.loads(line)["key"] for line in rejects.read_text(encoding="utf-8").splitlines()}
    found = {}
    for kind in PAIRS:
        both = [(f"{kind}-{i}-o" in gone) + (f"{kind}-{i}-c" in gone) for i in range(pairs)]
        found[kind] = Found(pairs, sum(n > 0 for n in both), sum(n > 1 for n in both))
    for kind in ("contaminated-text", "contaminated-image", "damaged"):
        found[kind] = Found(pairs, sum(f"{kind}-{i}" in gone for i in range(pairs)), 0)
    for kind in ("control-text", "control-image"):
        found[kind] = Found(0, 0, sum(f"{kind}-{i}" in gone for i in range(controls)))
    return found


def _pair(kind: str, random: np.random.Generator, edits: int) -> tuple[tuple[Member, ...], tuple[Member, ...]]:
    match kind:
        case "exact_text":
            text = real_text(random)
            return (_text(text),), (_text(restyled(text, random)),)
        case "near_text":
            text = real_text(random)
            return (_text(text),), (_text(edited(text, random, int(random.integers(1, edits + 1)))),)
        case "exact_sound":
            combinations = all_combinations("audio")
            wave = render_sound(combinations[random.integers(len(combinations))], random).numpy()
            wave = np.round(wave * 32767).astype(np.int16)  # libsndfile rounds floats differently for the two formats
            return _sound(wave, "FLAC"), _sound(wave, "WAV")
    picture = real_picture(random)
    file = encoded(picture, "PNG")
    match kind:
        case "exact_bytes":
            return _picture(file, "one"), _picture(file, "two")
        case "exact_pixels":
            return _picture(file, "one"), _picture(encoded(picture, "PNG", compress_level=1), "two")
    return _picture(file, "one"), _picture(changed(picture, kind.removeprefix("near_"), random), "two")


def _text(text: str) -> Member:
    return Member(Modality.TEXT, "txt", text.encode("utf-8"))


def _picture(file: tuple[str, bytes], caption: str) -> tuple[Member, ...]:
    return (*((_text(caption),) if caption else ()), Member(Modality.IMAGE, *file))


def _sound(wave: np.ndarray, kind: str) -> tuple[Member, ...]:
    file = BytesIO()
    soundfile.write(file, wave, SAMPLE_RATE_HZ, format=kind, subtype="PCM_16")
    return (Member(Modality.AUDIO, kind.lower(), file.getvalue()),)
