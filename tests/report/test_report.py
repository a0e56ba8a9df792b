"""The report is one safe file, tells what the folder holds, and misses nothing but what the folder misses."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from html_page import EVIL, Page
from PIL import Image

from ernie5.data_pipelines.synthetic.captions import caption
from ernie5.data_pipelines.synthetic.combinations import Combination
from ernie5.data_pipelines.synthetic.render_clip import render_clip
from ernie5.data_pipelines.synthetic.render_image import render_image
from ernie5.data_pipelines.synthetic.render_sound import render_sound
from ernie5.report import media
from ernie5.report.facts import duration, short
from ernie5.report.plots import MAX_POINTS, smoothed, thin
from ernie5.report.read import DIRECTIONS
from ernie5.report.report import write_report
from ernie5.report.router import COLD, EVEN, WARM, router_maps, specialisation
from ernie5.run.checkpoint import save_checkpoint
from ernie5.sequence import Kind
from ernie5.train.evaluate_media import Made
from ernie5.train.samples import save_samples

WORLD = {
    "image": (Combination("image", ("circle", "red", "small", "top left")), render_image),
    "video": (Combination("video", ("square", "blue", "moves up")), render_clip),
    "audio": (Combination("audio", ("saw", "c4", "three")), render_sound),
}
RECIPE = """run: {name: tiny, tokenizers: null}
model: {num_layers: 2, num_experts: 4, top_k: 2, dim: 32}
train: {steps: 3}
tokenizers: {text: {vocab_size: 512}, vision: {bits: 16}, audio: {codec: {num_codebooks: 3, codebook_size: 256}}}
"""


def read(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def write_metrics(folder: Path, losses: dict[str, float]) -> None:
    rows = [{"step": step, **losses, "grad_norm": None if step == 2 else 1.0, "lr": 1e-3, "tokens": 1000 * step, "tokens_per_s": 100.0,
             "router/max_load": 1.5, "elastic/layers": 2, "skipped": step == 2} for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def full_run(tmp_path_factory) -> Path:
    """A complete run of three steps with everything a report can show; the second sample of a direction is wrong."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    (folder / "logs").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    write_metrics(folder, {"loss/total": 9.0, "loss/text": 3.0, "loss/multi_token": 4.0, "loss/vision": 0.6, "loss/audio": 5.0})
    for kind, (combination, render) in WORLD.items():
        medium = render(combination, np.random.default_rng(0))
        truth = combination.attributes
        wrong = {**truth, next(iter(truth)): "unclear"}
        made = [Made(caption(combination), medium, truth, judged) for judged in (truth, wrong)]
        written = [Made(medium, line, truth, judged) for line, judged in ((caption(combination), truth), ("a a circle", None))]
        save_samples(folder / "samples", kind, made, written, 16000, 8.0)
    rows = {row: {"accuracy": 0.75, "chance": 0.05, "ceiling": 0.95, "n": 100, "per_attribute": {"shape": 0.875}} for row in DIRECTIONS}
    losses = {"text": 1.0, "vision": 0.3, "audio": 2.0, "multi_token": 1.5}
    losses |= {"marginal/text": 4.0, "marginal/vision": 0.6, "marginal/audio": 4.0}
    (folder / "eval.json").write_text(json.dumps({**rows, "loss": losses}))
    (folder / "samples" / "eval-00000002.json").write_text(json.dumps({"text_to_image": {"accuracy": 0.5}}))
    load = torch.rand(3, len(Kind), 4)
    tensors = {"model.layers.0.experts.up": torch.zeros(100, 10), "model.head": torch.zeros(500), "model.balance_bias": torch.zeros(4),
               "optimizer.x": torch.zeros(7), "router_load": load}
    save_checkpoint(folder / "checkpoints", 3, tensors, {}, run_id="tiny", fingerprint="f")
    (folder / "logs" / "quarantine.jsonl").write_text('{"kind": "rejected", "sample": "image/7", "reason": "cut off"}\n{"kind": "warn')
    return folder


@pytest.fixture(scope="module")
def full(full_run) -> Page:
    return read(full_run)


def test_one_file_without_scripts_or_network(full, full_run):
    assert (full_run / "report.html").stat().st_size < 5_000_000
    assert not full.all("script") + full.all("link") + full.all("iframe") + full.all("object")
    policy = next(m["content"] for m in full.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    for tag, attributes in full.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href", "poster", "xlink:href"}:
                assert value.startswith(("data:", "#")), (tag, name, value[:80])
    assert not re.search(r"url\((?!#)|@import", (full_run / "report.html").read_text(encoding="utf-8"))


def test_sections_stand_in_order(full):
    titles = ["What it can do", "Held-out loss", "Training", "Routers", "Samples", "Damaged data"]
    assert re.findall("|".join(titles), full.text) == titles
    assert full.text.index("tinycomplete") < full.text.index(titles[0])


def test_key_facts_and_commands(full, full_run):
    text = " ".join(full.text.replace("\u202f", " ").split())
    for fact in ("2 layers × 4 experts, top-2", "1.5 k parameters, 1.0 k active per token", "3 steps, 3.0 k tokens seen",
                 "30 s in training steps", "text BPE of 512, vision 16 bits, audio 3 × 256 codes",
                 f"ernie5 train {full_run}/recipe.yaml run.dir=NEW_DIR"):
        assert fact in text


def test_figures_of_the_evaluation(full):
    text = full.text.replace("\u202f", " ")
    assert text.count("75.0 % ± 4.3") == len(DIRECTIONS) and text.count("87.5 %") == len(DIRECTIONS)
    assert [below for below in re.findall(r"(\d+) % below", text)] == ["75", "50", "50"]
    bars = [a["style"] for a in full.all("i") if a.get("class") == "got"][: len(DIRECTIONS)]
    assert bars == ["left:5.0%;width:70.0%"] * len(DIRECTIONS)


def test_charts_are_wellformed_and_alone(full_run):
    charts = re.findall(r"<svg.*?</svg>", (full_run / "report.html").read_text(encoding="utf-8"), re.DOTALL)
    assert len(charts) == 1 + 4 + 4  # accuracy of images, losses, others
    for chart in charts:
        ElementTree.fromstring(chart)
        assert "<style" not in chart and "figure_1" not in chart and "#010203" not in chart
    assert sum("marginal entropy" in chart for chart in charts) == 3


def test_media_are_the_files_of_the_samples(full, full_run):
    for tag, direction, suffix in (("img", "image", ".png"), ("video", "video", ".mp4"), ("audio", "audio", ".wav")):
        shown = [a for a in full.all(tag) if a.get("class") != "heard" and (tag != "img" or a.get("class") == "pixels")]
        folders = [full_run / "samples" / name for name in (f"text_to_{direction}", f"{direction}_to_text")]
        files = [folder / f"{i:03d}{suffix}" for folder in folders for i in (0, 1)]
        assert [base64.b64decode(a["src"].partition(",")[2]) for a in shown] == [file.read_bytes() for file in files]
    assert all({"autoplay", "loop", "muted", "playsinline"} <= a.keys() for a in full.all("video"))
    assert sum(a.get("class") == "heard" for a in full.all("img")) == 4


def test_verdicts(full):
    marks = [a for a in full.all("span") if a.get("title") in {"shape", "colour", "size", "position", "motion", "timbre", "pitch", "beeps"}]
    assert len(marks) == 4 * (4 + 3 + 3)
    assert sum(a.get("class") == "wrong" for a in marks) == 3 + 4 + 3 + 3  # one each of what was made, all of the unreadable captions
    assert "✗ circle, unclear" in full.text and "✓ red" in full.text and full.text.count("no caption that can be judged") == 3
    assert full.text.count("1 of 2 shown are right in everything") == 6


def test_text_from_outside_stays_text(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "logs").mkdir()
    row = {"text": EVIL, "file": EVIL, "wanted": {EVIL: EVIL}, "judged": {EVIL: EVIL + "x"}}
    (tmp_path / "samples" / "text_to_image.json").write_text(json.dumps([row]))
    (tmp_path / "logs" / "quarantine.jsonl").write_text(json.dumps({"kind": "rejected", "sample": EVIL, "reason": EVIL}))
    (tmp_path / "recipe.yaml").write_text(json.dumps({"run": {"name": EVIL, "start_from": EVIL}, "model": {"num_layers": EVIL}}))
    (tmp_path / "code.txt").write_text(f"{EVIL}\n")
    evaluation = {"text_to_image": {"accuracy": 0.5, "chance": EVIL, "n": EVIL, "per_attribute": {EVIL: 0.5}}, "loss": {"text": EVIL}}
    (tmp_path / "eval.json").write_text(json.dumps(evaluation))
    page = read(tmp_path)
    assert not page.all("script") and not page.all("img")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") >= 8


def test_a_folder_with_nothing_in_it(tmp_path):
    page = read(tmp_path)
    for sentence in ("Not evaluated yet", "No step has been taken yet", "No checkpoint with router loads yet", "No samples yet"):
        assert sentence in page.text
    assert "Damaged data" not in page.text and "Held-out loss" not in page.text and "unfinished" in page.text


def test_a_text_only_run_shows_text_only(tmp_path):
    (tmp_path / "recipe.yaml").write_text("train: {steps: 10}")
    write_metrics(tmp_path, {"loss/total": 3.0, "loss/text": 3.0, "loss/multi_token": 0.0, "loss/vision": 0.0, "loss/audio": 0.0})
    page = read(tmp_path)
    assert "loss, text" in page.text and "loss, vision" not in page.text and "second next token" not in page.text
    assert "unfinished: step 3 of 10" in page.text and "1 step(s) skipped" in page.text


@pytest.mark.parametrize("content", ["{", "[1, 2]", '"x"', '{"loss": 3, "text_to_image": [1]}', '{"text_to_image": {"accuracy": "high"}}'])
def test_damaged_files_cost_their_part_only(tmp_path, content):
    (tmp_path / "samples").mkdir()
    (tmp_path / "eval.json").write_text(content)
    (tmp_path / "samples" / "text_to_image.json").write_text(content)
    (tmp_path / "recipe.yaml").write_text("run: [" if content == "{" else "just text")
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-00000001" / "COMMIT").write_text("0\n")
    page = read(tmp_path)
    assert "Not evaluated yet" in page.text
    assert ("eval.json is damaged" in page.text) == (content == "{")


def test_media_that_cannot_be_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(media, "MEDIA_BYTES", 3000)
    samples = tmp_path / "samples"
    samples.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (samples / "big.png").write_bytes(bytes(4000))
    (samples / "broken.wav").write_bytes(b"RIFF")
    (samples / "small.png").write_bytes(bytes(900))
    files = ["../secret.png", "gone.png", "notes.txt", "big.png", "broken.wav", *["small.png"] * 5]
    (samples / "text_to_image.json").write_text(json.dumps([{"text": "x", "file": file, "wanted": {}, "judged": None} for file in files]))
    page = read(tmp_path)
    assert [a["src"] for a in page.all("img")] == [f"data:image/png;base64,{base64.b64encode(bytes(900)).decode()}"] * len(page.all("img"))
    assert "gone.png is missing" in page.text and "big.png is too big" in page.text and "notes.txt is no picture" in page.text
    assert len(page.all("audio")) == 1
    left = 5 - len(page.all("img"))
    assert left > 0 and f"{left} more in samples/text_to_image" in page.text


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="is no folder; name the folder of a run"):
        write_report(tmp_path / "nothing")


def test_specialisation_is_one_when_even():
    load = np.array([[[5.0, 5.0, 5.0, 5.0], [8.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    values = specialisation(load)
    np.testing.assert_allclose(values[0, :2], [[1, 1, 1, 1], [4, 0, 0, 0]])
    assert np.isnan(values[0, 2]).all()


def test_router_maps_colour_what_they_say():
    load = torch.zeros(3, len(Kind), 4).numpy()
    load[:, Kind.TEXT] = 5.0
    load[:2, Kind.AUDIO_GENERATE, 2] = 8.0  # the multi-token layer sees no audio
    page = Page(router_maps(load, num_layers=2))
    assert re.findall(r"layer \d|multi-token layer", page.text) == ["layer 1", "layer 2", "multi-token layer"]
    assert page.text.count("audio made") == 3 and "image" not in page.text
    pictures = [np.array(Image.open(BytesIO(base64.b64decode(a["src"].partition(",")[2])))) for a in page.all("img")[1:]]
    assert pictures[0].shape == (2, 4, 4)
    assert (pictures[0][0, :, :3] == EVEN).all()
    assert (pictures[0][1, 2, :3] == WARM).all() and (pictures[0][1, 0, :3] == COLD).all()
    assert (pictures[0][..., 3] == 255).all() and (pictures[2][1, :, 3] == 0).all()
    assert "audio made: expert 3 (4.0 ×)" in page.all("img")[1]["title"]
    assert router_maps(np.zeros((2, len(Kind), 4)), 2) is None


def test_running_mean():
    values = np.sin(np.arange(600) / 50.0)
    values[100] = np.nan
    expected = [np.nanmean(values[max(i - 5, 0) : i + 6]) for i in range(600)]
    np.testing.assert_allclose(smoothed(values), expected)
    assert np.isnan(smoothed(np.full(4, np.nan))).all()


def test_thinning_keeps_spikes_and_order():
    steps, values = np.arange(10_000.0), np.zeros(10_000)
    values[777], values[5001], values[3] = 9.0, -4.0, np.nan
    x, y = thin(steps, values)
    assert len(x) <= MAX_POINTS and np.isfinite(y).all() and (np.diff(x) >= 0).all()
    assert y.max() == 9.0 and y.min() == -4.0 and x[y.argmax()] == 777
    np.testing.assert_array_equal(thin(steps[:5], values[:5])[0], [0, 1, 2, 4])


@pytest.mark.parametrize("pitch_hz", [220.0, 2000.0])
def test_spectrogram_shows_pitch_and_time(pitch_hz):
    time = np.arange(16000) / 16000
    wave = np.where(time < 0.5, np.sin(2 * np.pi * pitch_hz * time), 0.0).astype(np.float32)
    picture = np.array(Image.open(BytesIO(media.spectrogram(wave, 16000))).convert("L")).astype(float)
    assert picture.shape == (media.BANDS, media.COLUMNS)
    heard, silence = picture[:, 20:100], picture[:, 140:]
    height = 1 - heard.mean(axis=1).argmax() / media.BANDS
    expected = np.log(pitch_hz / media.LOWEST_HZ) / np.log(media.HIGHEST_HZ / media.LOWEST_HZ)
    assert abs(height - expected) < 0.06
    assert silence.max() < 0.2 * heard.max()


def test_numbers_for_people():
    assert [short(n) for n in (7, 1500, 6_210_345, 123_456_789, 2e9)] == ["7", "1.5 k", "6.2 M", "123 M", "2.0 B"]
    assert [duration(s) for s in (12, 192, 7300)] == ["12 s", "3 min 12 s", "2 h 1 min"]
