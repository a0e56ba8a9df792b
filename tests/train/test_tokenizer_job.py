"""`ernie5 tokenizer train`: what it says first, what it leaves, and jobs side by side that end together."""

import os

import pytest
import torch
from micro_run import micro_recipe

from ernie5.config import load_config
from ernie5.recipe import Recipe
from ernie5.run.folder import RunFolder
from ernie5.train.side_by_side import side_by_side
from ernie5.train.tokenizer_job import screen, train_tokenizers


def test_one_tokenizer_alone(tmp_path, capsys):
    recipe = micro_recipe(tmp_path / "run", None)
    train_tokenizers(recipe, only="text")
    folder = RunFolder(tmp_path / "run")
    assert [path.name for path in folder.tokenizers.iterdir()] == ["text"] and load_config(Recipe, folder.recipe) == recipe
    said = capsys.readouterr()
    assert "text       300 tokens from up to 409,600 texts" in said.out + said.err and "ernie5 tokenizer eval" in said.out + said.err
    train_tokenizers(micro_recipe(tmp_path / "run", None, "model.num_experts=8"), only="text")
    said = capsys.readouterr()
    assert f"tokenizers all there: {folder.tokenizers}" in said.out + said.err
    with pytest.raises(ValueError, match="tokenizers.text.vocab_size: 300 -> 310"):
        train_tokenizers(micro_recipe(tmp_path / "run", None, "tokenizers.text.vocab_size=310"), only="text")


def test_sizes_are_said(tmp_path):
    folder = RunFolder(tmp_path).create()
    (folder.tokenizers / ".vision-half").mkdir(parents=True)
    lines = "\n".join(screen(micro_recipe(tmp_path, None, "tokenizers.audio.kind=causal"), folder, ["vision", "audio"]))
    assert "stride 8, 8 bits" in lines and "2 steps of pictures, 2 with clips, on cpu  (going on)" in lines
    assert "causal, 3 levels of 16 codes at 12.5 Hz" in lines and "M parameters" in lines


def write(path: str, text: str) -> None:
    """A job: a file that says how many threads it has."""
    if text == "bad":
        raise ValueError("this one is bad")
    with open(path, "w") as file:
        file.write(f"{text} {torch.get_num_threads()} {os.environ['ERNIE5_PROGRESS']}")


def test_side_by_side(tmp_path):
    threads = max(1, torch.get_num_threads() // 2)
    with pytest.raises(ValueError, match="this one is bad"):
        side_by_side(write, [(str(tmp_path / "a"), "good"), (str(tmp_path / "b"), "bad")])
    assert (tmp_path / "a").read_text() == f"good {threads} lines" and not (tmp_path / "b").exists()
