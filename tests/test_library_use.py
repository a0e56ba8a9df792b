"""The parts of other people: the example script learns, and its classes work in a recipe."""

from pathlib import Path

import pytest
import torch
from micro_run import micro_recipe, run_micro, same_run, train_until_death

from ernie5.generate.choose import Sampling
from ernie5.sequence import Modality, Segment
from ernie5.train.load import load_run

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def library_example(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(DOCS)
    import library_example

    return library_example


def test_the_example_learns(library_example) -> None:
    losses = library_example.train(24)
    assert losses[0] > 6 and losses[-1] < losses[0] / 3


def test_own_tokenizer_router_and_objective_in_a_recipe(micro, library_example, tmp_path) -> None:
    parts = ("model.router=library_example:SoftmaxRouter", "train.objective=library_example:CalmLoss",
             f"tokenizers.parts={{text: {{part: library_example:ByteTokenizer, folder: {tmp_path}}}}}", "train.steps=4")
    whole = run_micro(micro_recipe(tmp_path / "whole", micro.folder, *parts))
    assert whole.code == 0 and whole.saved.tensors["model.heads.text.weight"].shape == (268, 32)
    assert whole.metrics[0]["loss/total"] > whole.metrics[0]["loss/text"] + 0.3 * whole.metrics[0]["loss/multi_token"]
    recipe = micro_recipe(tmp_path / "cut", micro.folder, *parts)
    train_until_death(recipe, 3)
    same_run(run_micro(recipe), whole)

    _, model, generator, _ = load_run(whole.folder)
    assert type(model.layers[0].moe.router).__name__ == "SoftmaxRouter"
    (text,) = generator.generate([[Segment(Modality.TEXT, "a small")]], Modality.TEXT, Sampling())
    assert isinstance(text, str)
    assert torch.equal(generator.tokenizers.text.encode("ab"), torch.tensor([109, 110]))


def test_an_own_part_that_does_not_exist_is_named(micro, library_example, tmp_path) -> None:
    with pytest.raises(ValueError, match="library_example has no class SoftmaxRooter; did you mean SoftmaxRouter"):
        run_micro(micro_recipe(tmp_path / "run", micro.folder, "model.router=library_example:SoftmaxRooter"))
