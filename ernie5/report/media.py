"""Samples to look at and to listen to: the medium, the text that asked for it or that describes it, and the judge's verdict.

All media become part of the page, as many of a direction as fit into `MEDIA_BYTES`. Ours.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ernie5.report.html import Html, data_uri, el, shorten

MEDIA_BYTES = 650_000  # of base64, per direction
MIME = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".mp4": "video/mp4", ".wav": "audio/wav", ".flac": "audio/flac"}
BANDS, COLUMNS, WINDOW, LOWEST_HZ, HIGHEST_HZ, RANGE_DB = 72, 240, 1024, 80.0, 8000.0, 70.0


def sample_grid(rows: list[dict[str, Any]], folder: Path, direction: str) -> tuple[Html, str]:
    """Cards, and how many of them are right. `folder`: what the rows' files are relative to; `direction`: `text_to_image` …"""
    verb = "wrote" if direction.endswith("_to_text") else "heard" if direction.endswith("audio") else "saw"
    cards: list[Html] = []
    used = 0
    for row in rows:
        card = _card(row, folder, verb)
        if used + len(card) > MEDIA_BYTES:
            break
        used += len(card)
        cards.append(card)
    judged = [row for row in rows[: len(cards)] if _dict(row.get("wanted"))]
    num_right = sum(all(_dict(row.get("judged")).get(name) == value for name, value in row["wanted"].items()) for row in judged)
    grid = el("div", cards, class_="samples wide" if "audio" in direction else "samples")
    if left := len(rows) - len(cards):
        grid = Html(grid + el("p", f"{left} more in samples/{direction}, left out to keep this page small.", class_="lead more"))
    return grid, f"{num_right} of {len(judged)} shown are right in everything" if judged else ""


def _card(row: dict[str, Any], folder: Path, verb: str) -> Html:
    caption = shorten(str(row.get("text", "")))
    verdict = _verdict(_dict(row.get("wanted")), row.get("judged"), verb)
    medium = _medium(str(row.get("file", "")), folder, caption)
    return el("div", medium, el("q", caption or "(nothing written)"), verdict, class_="card sample")


def _medium(name: str, folder: Path, caption: str) -> Html:
    path, mime = folder / name, MIME.get(Path(name).suffix.lower(), "")
    try:
        if not mime or not path.resolve().is_relative_to(folder.resolve()):
            return el("p", f"{name or 'no file'} is no picture, clip or sound of this run", class_="lead")
        if path.stat().st_size > MEDIA_BYTES:
            return el("p", f"{name} is too big to be shown here", class_="lead")
        uri = data_uri(mime, path.read_bytes())
    except (OSError, ValueError):
        return el("p", f"{name} is missing", class_="lead")
    if mime.startswith("image/"):
        return el("img", class_="pixels", src=uri, alt=caption)
    if mime.startswith("video/"):
        return el("video", class_="pixels", src=uri, aria_label=caption, autoplay=True, loop=True, muted=True, playsinline=True)
    return Html((_heard(path) or "") + el("audio", src=uri, controls=True, preload="metadata", aria_label=caption))


def _verdict(wanted: dict[str, Any], judged: Any, verb: str) -> Html:
    """A tick or a cross for every attribute, and what there was instead."""
    marks = []
    for name, value in wanted.items():
        found = _dict(judged).get(name)
        right = found == value
        instead = "" if right or found is None else ", unclear" if found == "unclear" else f", {verb} {found}"
        marks.append(el("span", shorten(f"{'✓' if right else '✗'} {value}{instead}", 80), class_=None if right else "wrong", title=name))
    if wanted and not isinstance(judged, dict):
        marks.append(el("span", "no caption that can be judged" if verb == "wrote" else "not judged", class_="wrong"))
    return el("div", marks, class_="verdict")


def _heard(path: Path) -> Html | None:
    """A spectrogram of a sound file; None when it cannot be decoded."""
    import soundfile

    try:
        wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, ValueError):
        return None
    if not len(wave):
        return None
    told = f"spectrogram, {LOWEST_HZ:.0f} Hz to {min(HIGHEST_HZ, rate_hz / 2):.0f} Hz, {len(wave) / rate_hz:.2f} s"
    return el("img", class_="heard", src=data_uri("image/png", spectrogram(wave.mean(axis=1), rate_hz)), alt=told, title=told)


def spectrogram(wave: np.ndarray, rate_hz: int) -> bytes:
    """Wave `n` -> a PNG: time to the right, pitch upward on a log scale, loudness in dB below the loudest."""
    from matplotlib import colormaps
    from PIL import Image

    padded = np.pad(np.nan_to_num(wave), (WINDOW // 2, WINDOW // 2 + 1))
    starts = np.linspace(0, len(wave), COLUMNS).astype(int)
    frames = np.stack([padded[s : s + WINDOW] for s in starts]) * np.hanning(WINDOW)  # columns, window
    power = np.abs(np.fft.rfft(frames)) ** 2  # columns, frequencies
    edges = np.geomspace(LOWEST_HZ, min(HIGHEST_HZ, rate_hz / 2), BANDS + 1) * WINDOW / rate_hz  # in bins
    spans = [slice(int(low), max(int(np.ceil(high)), int(low) + 1)) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    bands = np.stack([power[:, span].max(axis=1) for span in spans])
    loud = 10 * np.log10(np.maximum(bands, 1e-8))  # bands, columns
    shade = np.clip(1 + (loud - max(loud.max(), 0.0)) / RANGE_DB, 0, 1)[::-1]
    file = BytesIO()
    Image.fromarray((255 * colormaps["magma"](shade)[..., :3]).astype(np.uint8)).quantize(48).save(file, "PNG", optimize=True)
    return file.getvalue()


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
