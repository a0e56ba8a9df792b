"""Bits that are switched on in the middle of a run: exact resume across the switch, prefix generation, refusals by name."""

import json
import math
from dataclasses import replace
from unittest import mock

import pytest
import torch
from micro_run import MicroRun, micro_recipe, run_micro, same_run, train_until_death

from ernie5.family.export import Wanted, export_run
from ernie5.generate.choose import Sampling
from ernie5.planner.run import plan_recipe
from ernie5.report.facts import facts
from ernie5.report.read import read_run
from ernie5.run.folder import RunFolder
from ernie5.sequence import Modality, Segment
from ernie5.train.evaluate_loss import heldout_batches, loss_on
from ernie5.train.evaluate_media import reconstruct
from ernie5.train.first_screen import growth_lines
from ernie5.train.job import resume_run
from ernie5.train.load import load_run

GROWS = ("train.bits=3", "train.stages=[{from_step: 4, bits: 8}]", "train.checkpoint_every=1", "train.modality_weighting=posterior",
         "train.optimizer.weight_decay=0.5", "train.schedule.lr=0.01")


@pytest.fixture(scope="module")
def grown(micro, tmp_path_factory) -> MicroRun:
    """Three steps of 3 bits, three of all 8."""
    return run_micro(micro_recipe(tmp_path_factory.mktemp("bits") / "grown", micro.folder, *GROWS))


def test_the_run_says_how_many_bits_are_on(grown) -> None:
    assert [line["bits"] for line in grown.metrics] == [3, 3, 3, 8, 8, 8]
    assert [load_run(f"{grown.folder}@{step}")[3].state["bits"] for step in (3, 4)] == [3, 8]
    told = "".join(map(str, facts(read_run(grown.folder))))
    assert "vision 8 bits (3, 8 from step 4)" in told


def test_new_bits_are_exactly_zero_until_they_are_switched_on(grown) -> None:
    for step, off in ((3, True), (4, False)):
        saved = load_run(f"{grown.folder}@{step}")[3]
        names = [n for n in saved.shapes if n.endswith(("embeddings.vision.weight", "heads.vision.weight", "heads.vision.bias"))]
        new = [saved.read(n)[:, 3:] if "embeddings" in n else saved.read(n)[3:] for n in names if len(saved.shapes[n])]
        assert len(new) == 9 and all((part.count_nonzero() == 0) == off for part in new)


@pytest.mark.parametrize(("step", "first"), [(3, 3), (4, 4), (6, 6)], ids=["before the switch", "at the switch", "after it"])
def test_a_run_resumes_bit_for_bit_across_the_switch(grown, micro, tmp_path, step, first) -> None:
    """And batches made ahead, by a thread and by workers, never have the old width: the uninterrupted run made none."""
    ahead = ("train.prefetch=on", "data.workers=1", "data.cache_gib=0.0001")
    recipe = micro_recipe(tmp_path / "run", micro.folder, *GROWS, *ahead)
    train_until_death(recipe, step)
    again = run_micro(recipe)
    assert again.code == 0 and min(again.sample_ids) == first
    same_run(again, grown)


def test_right_after_the_switch_the_old_bits_are_where_they_were(grown) -> None:
    """The last model before it, measured with 3 bits on and with all: old bits unchanged, new ones at ln 2."""
    recipe, model, generator, _ = load_run(f"{grown.folder}@3")
    folder = RunFolder(grown.folder)
    few = loss_on(model, list(heldout_batches(recipe, folder, generator, 6)), (3, 8))
    generator.widths = replace(generator.widths, bits=8)
    after = loss_on(model, list(heldout_batches(recipe, folder, generator, 6)), (3, 8))
    assert 0 < few["vision"] < 0.8 and "vision/bits 4-8" not in few and few["vision"] == pytest.approx(few["vision/bits 1-3"], abs=1e-6)
    assert after["vision/bits 1-3"] == few["vision/bits 1-3"] and after["vision/bits 4-8"] == pytest.approx(math.log(2), abs=1e-6)
    assert after["vision"] == pytest.approx((3 * few["vision"] + 5 * math.log(2)) / 8, abs=1e-6)
    assert [after[name] for name in ("text", "audio", "multi_token")] == [few[name] for name in ("text", "audio", "multi_token")]


def totals(spec, bits: int) -> list[torch.Tensor]:
    """What the decoder gets for one image and one clip of the model of a checkpoint."""
    _, _, generator, _ = load_run(spec)
    assert generator.widths.bits == bits
    vision = generator.tokenizers.vision
    with mock.patch.object(vision, "decode", wraps=vision.decode) as decode:
        for kind in (Modality.IMAGE, Modality.VIDEO):
            generator.generate([[Segment(Modality.TEXT, "a small red circle")]], kind, Sampling())
    return [call.args[0] for call in decode.call_args_list]


def test_generation_makes_the_bits_that_are_on(grown, tmp_path) -> None:
    export_run(f"{grown.folder}@3", tmp_path / "out", Wanted())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["exported"]["bits"] == 3
    for spec in (f"{grown.folder}@3", tmp_path / "out"):
        for total in totals(spec, 3):
            assert total.shape[1] == 8 and total[:, 3:].count_nonzero() == 0 and total[:, :3].count_nonzero() > 0
    assert all(total[:, 3:].count_nonzero() > 0 for total in totals(str(grown.folder), 8))


def test_what_few_bits_can_show_is_the_ceiling_of_an_evaluation(grown) -> None:
    picture = Segment(Modality.IMAGE, torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8))
    few, all_bits = (load_run(f"{grown.folder}@{step}")[2] for step in (3, 4))
    vision = few.tokenizers.vision
    total = vision.quantizer.encode(vision.encode(picture.media).latent).total
    assert torch.equal(reconstruct(all_bits, picture), vision.decode(total))
    total[:, 3:] = 0
    assert torch.equal(reconstruct(few, picture), vision.decode(total))


def test_a_fork_may_switch_bits_on_and_never_off(grown, micro, tmp_path) -> None:
    forked = run_micro(micro_recipe(tmp_path / "fork", None), lambda: resume_run(
        f"{grown.folder}@3", ["train.stages=[{from_step: 5, bits: 5}]", "train.steps=5"], tmp_path / "fork"))
    assert [line["bits"] for line in forked.metrics] == [3, 5] and forked.metrics[0]["loss/text"] == grown.metrics[3]["loss/text"]
    with pytest.raises(ValueError, match=r"grown@4 has 8 bits of a vision token on, and in step 1 of this run 4 would be"):
        run_micro(micro_recipe(tmp_path / "less", micro.folder, f"run.start_from={grown.folder}@4", "train.bits=4"))
    more = run_micro(micro_recipe(tmp_path / "more", micro.folder, f"run.start_from={grown.folder}@3", "train.bits=5", "train.steps=1"))
    assert more.metrics[0]["bits"] == 5


@pytest.mark.parametrize(("overrides", "words"), [
    (["train.bits=0"], r"train\.bits = 0 must be at least 1; use null"),
    (["train.bits=9"], r"train\.bits = 9 must be at most 8, the bits of the vision tokenizer"),
    (["train.stages=[{from_step: 2, bits: 8}]"], r"train\.stages\[0\]\.bits = 8 switches bits on, but train\.bits = null begins with all"),
    (["train.bits=4", "train.stages=[{from_step: 2, bits: 6}, {from_step: 4, bits: 6}]"],
     r"train\.stages\[1\]\.bits = 6 must be more than train\.stages\[0\]\.bits = 6: bits are only switched on"),
    (["train.bits=4", "train.stages=[{from_step: 2, bits: 12}]"], r"train\.stages\[0\]\.bits = 12 must be at most 8"),
    (["train.bits=4", "tokenizers.vision.bit_series=[2, 8]"], r"train\.bits = 4 is none of tokenizers\.vision\.bit_series = \[2, 8\]"),
])
def test_widths_that_cannot_be_are_refused_by_name(tmp_path, overrides, words) -> None:
    with pytest.raises(ValueError, match=words):
        micro_recipe(tmp_path, None, *overrides).check()


def test_another_runs_tokenizer_is_asked_when_it_is_there(micro, tmp_path) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder, "train.bits=12", "tokenizers.vision.bits=16")
    with pytest.raises(ValueError, match=r"train\.bits = 12 must be at most 8"):
        run_micro(recipe)


def test_the_first_screen_and_the_plan_say_it(tmp_path) -> None:
    recipe = micro_recipe(tmp_path, None, *GROWS)
    (line,) = growth_lines(recipe.train, recipe.tokenizers.vision)
    assert line.startswith("bits       3 of 8, 8 of 8 from step 4 in a vision token; tokenizers.vision.bit_series = [3, 8] would teach")
    assert not growth_lines(micro_recipe(tmp_path, None).train, recipe.tokenizers.vision)
    (tmp_path / "small.yaml").write_text("train: {bits: 4, stages: [{from_step: 10, bits: 16}]}\n")
    text, _ = plan_recipe(tmp_path / "small.yaml", [], 1, "h100", None, False)
    assert "bits        4 of 16, 16 of 16 from step 10 in a vision token; planned with all of them" in text
