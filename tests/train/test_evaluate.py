"""Evaluation, samples and loading of a run folder that was moved elsewhere."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from ernie5.data_pipelines.synthetic.combinations import KINDS
from ernie5.generate.choose import Sampling
from ernie5.run.folder import RunFolder
from ernie5.sequence import Modality, Segment
from ernie5.train.evaluate import evaluate_run, evaluated_step
from ernie5.train.evaluate_media import judge_all
from ernie5.train.load import load_run
from ernie5.train.sample import sample_run


@pytest.fixture(scope="module")
def moved(micro, tmp_path_factory) -> Path:
    """A copy of the micro run in another place, evaluated."""
    folder = tmp_path_factory.mktemp("moved") / "run"
    shutil.copytree(micro.folder, folder)
    assert evaluated_step(RunFolder(folder)) is None
    evaluate_run(folder)
    return folder


def test_every_direction_has_its_row(moved) -> None:
    result = json.loads((moved / "eval.json").read_text())
    for kind in KINDS:
        for name in (f"text_to_{kind}", f"{kind}_to_text"):
            row = result[name]
            assert row["n"] == (2 if kind == "video" else 3)
            assert all(0 <= row[key] <= 1 for key in ("accuracy", "chance", "ceiling")) and row["chance"] > 0
            assert row["per_attribute"] and row["accuracy"] <= min(row["per_attribute"].values())
            listed = json.loads((moved / "samples" / f"{name}.json").read_text())
            assert len(listed) == row["n"] and all((moved / "samples" / entry["file"]).stat().st_size > 0 for entry in listed)
        assert result[f"{kind}_to_text"]["ceiling"] == 1.0
    assert result["step"] == evaluated_step(RunFolder(moved)) == 6


def test_the_loss_stands_beside_its_marginals(moved) -> None:
    loss = json.loads((moved / "eval.json").read_text())["loss"]
    for name, at_most in (("text", math.log(300)), ("vision", math.log(2)), ("audio", math.log(17))):
        assert 0 < loss[f"marginal/{name}"] <= at_most and 0 < loss[name] < 2 * at_most


def test_evaluation_takes_a_step_and_a_number(moved) -> None:
    result = evaluate_run(f"{moved}@4", n=1)
    assert result["step"] == 4 and result["text_to_image"]["n"] == 1


def test_judges_take_media_of_any_length() -> None:
    clips = [torch.zeros(t, 3, 32, 32, dtype=torch.uint8) for t in (1, 9, 5, 9)]
    assert [found["shape"] for found in judge_all("video", clips)] == ["unclear"] * 4
    assert [found["pitch"] for found in judge_all("audio", [torch.zeros(n) for n in (0, 16640, 1280)])] == ["unclear"] * 3
    assert judge_all("image", []) == []


def make(run: Path, to: str, out: Path | None, **given) -> str:
    settings = {"image": None, "video": None, "audio": None, "guidance": None, "temperature": None, "seed": 3} | given
    return sample_run(run, settings.pop("prompt", "a small red circle"), to=to, out=out, **settings)


def test_samples_of_every_kind_are_files(moved, tmp_path) -> None:
    kinds = {"image": ("a.png", b"\x89PNG"), "video": ("a.mp4", b"ftyp"), "audio": ("a.wav", b"RIFF"), "text": ("a.txt", b"")}
    for to, (name, magic) in kinds.items():
        out = tmp_path / "made" / name
        assert make(moved, to, out) == str(out) and magic in out.read_bytes()[:12]
    image, video, audio = (tmp_path / "made" / name for name in ("a.png", "a.mp4", "a.wav"))
    assert isinstance(make(moved, "text", None, prompt=None, image=image, video=video, audio=audio), str)
    with pytest.raises(ValueError, match="a.png: .*"):
        make(moved, "text", None, audio=image)
    assert Path(make(moved, "image", tmp_path / "b.png", guidance=2.0)).is_file()
    with pytest.raises(ValueError, match="use guidance 1 for text"):
        make(moved, "text", None, guidance=2.0)


def test_a_loaded_run_generates_the_same_again(moved) -> None:
    recipe, model, generator, saved = load_run(moved, device="cpu")
    assert saved.step == 6 and recipe.run.folder == str(moved) and not model.training
    prompts = [[Segment(Modality.TEXT, "two high beeps")], [Segment(Modality.TEXT, "a low beep")]]
    one, again, other = (generator.generate(prompts, Modality.IMAGE, Sampling(temperature=1.0), seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True)) and one[0].shape == (1, 3, 32, 32)
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
