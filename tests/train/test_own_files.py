"""A user's own folder, as it comes: photographs, scans, recordings, clips and texts -> shards -> tokenizers -> twenty steps."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from micro_run import MICRO, run_micro
from PIL import Image

from ernie5.config import load_config
from ernie5.data_pipelines.pack_folder import pack_folder
from ernie5.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "data_pipelines"))
from make_media import clip_bytes, sound_bytes  # noqa: E402

datasets = pytest.importorskip("sklearn.datasets")


def jpeg(picture: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def fill(folder: Path) -> None:
    photos = [Image.fromarray(image) for image in datasets.load_sample_images().images]
    rotated = photos[0].getexif()
    rotated[0x0112] = 6
    files = {
        "china.jpg": jpeg(photos[0]), "china.txt": b"a temple behind a lawn",
        "flower.jpg": jpeg(photos[1], progressive=True), "flower.txt": "eine Blüte, 花".encode(),
        "print.jpg": jpeg(photos[1].convert("CMYK")), "upright.jpg": jpeg(photos[0], exif=rotated),
        "odd.jpg": jpeg(photos[0].crop((0, 0, 333, 97))),
        "voice.wav": sound_bytes("WAV", 1.3, 44100, channels=2), "voice.txt": b"a stereo recording",
        "music.mp3": sound_bytes("MP3", 1.0, 44100), "short.flac": sound_bytes("FLAC", 0.2),
        "clip.mp4": clip_bytes([0.0, 0.1, 0.35, 0.4, 0.9, 1.0, 1.4]), "clip.txt": b"frames at odd times",
        "note.txt": b"only words", "broken.jpg": jpeg(photos[0])[:2000],
        "story.json": json.dumps({"segments": [{"text": "look:"}, {"image": "flower.jpg"}, {"audio": "music.mp3"}]}).encode(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for i, scan in enumerate(datasets.load_digits().images[:12]):
        Image.fromarray((scan * 4095).astype(np.uint16)).save(folder / f"digit{i}.png")  # 16 bits
        (folder / f"digit{i}.txt").write_text(f"a handwritten digit, number {i}")


def test_a_folder_of_real_files_trains(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    fill(mine)
    report = pack_folder(mine, tmp_path / "shards")
    assert [Path(name).name for name, _ in report.rejected] == ["broken.jpg"]
    assert sum(report.accepted.values()) >= 20
    settings = {"sources": {"mine": {"path": str(tmp_path / "shards")}}, "heldout": {}}
    steps = {**MICRO["train"], "steps": 20, "checkpoint_every": 20}
    plain = {**MICRO, "data": settings, "run": {"dir": str(tmp_path / "run")}, "train": steps}
    recipe = load_config(Recipe, plain)
    run = run_micro(recipe)
    assert run.code == 0 and len(run.metrics) == 20
    for part in ("text", "vision", "audio"):
        assert all(np.isfinite(line[f"loss/{part}"]) for line in run.metrics)
    assert sum(line["loss/audio"] > 0 for line in run.metrics) and sum(line["loss/vision"] > 0 for line in run.metrics)
    assert not (tmp_path / "run" / "logs" / "quarantine.jsonl").exists()
