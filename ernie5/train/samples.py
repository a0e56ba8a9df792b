"""Media on disk: what a model made, in formats that every viewer opens, and an index with prompts and verdicts.

`samples/text_to_image/000.png` …, `samples/text_to_image.json` (prompt, file, wanted, judged). PNG, MP4 (H.264), WAV. Ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ernie5.run.files import atomic_write
from ernie5.train.evaluate_media import Made

SHOWN = 24


def write_medium(path: Path, medium: Tensor, sample_rate_hz: int, fps: float) -> None:
    """uint8 `t c h w` as .png, .jpg or .mp4, float `n` as .wav or .flac, by the suffix of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix.lower():
        case ".png" | ".jpg" | ".jpeg":
            from PIL import Image

            Image.fromarray(rearrange(medium[0].cpu(), "c h w -> h w c").numpy()).save(path)
        case ".mp4":
            write_mp4(path, medium, fps)
        case ".wav" | ".flac":
            import soundfile

            soundfile.write(path, medium.clamp(-1, 1).cpu().numpy(), sample_rate_hz)
        case other:
            raise ValueError(f"{path}: cannot write {other or 'a file without suffix'}; use .png, .jpg, .mp4, .wav or .flac")


def write_mp4(path: Path, frames: Tensor, fps: float) -> None:
    """uint8 `t c h w` (even sides) as H.264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "14"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[-2], frames.shape[-1], "yuv420p"
        for picture in rearrange(frames.cpu(), "t c h w -> t h w c").numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


def save_samples(folder: Path, kind: str, made: Sequence[Made], written: Sequence[Made], sample_rate_hz: int, fps: float) -> None:
    """The first few results of both directions of a kind."""
    suffix = {"image": ".png", "video": ".mp4", "audio": ".wav"}[kind]
    for name, results, media in ((f"text_to_{kind}", made, "made"), (f"{kind}_to_text", written, "prompt")):
        rows = []
        for number, result in enumerate(results[:SHOWN]):
            file = Path(name) / f"{number:03d}{suffix}"
            medium = getattr(result, media)
            assert isinstance(medium, torch.Tensor)
            write_medium(folder / file, medium, sample_rate_hz, fps)
            text = result.prompt if media == "made" else result.made
            rows.append({"text": text, "file": str(file), "wanted": result.wanted, "judged": result.judged})
        atomic_write(folder / f"{name}.json", json.dumps(rows, indent=1).encode())
