"""The routing study: its numbers against cases that can be worked out by hand, the usage it is made of, and that the report draws them."""

import json
import re
import shutil
from itertools import combinations
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch

from ernie5.analysis.routing import busiest, chance_overlap, chance_spread, frequency, normalised_entropy, overlap
from ernie5.analysis.routing_study import RoutingStudy, study_of
from ernie5.cli.main import main
from ernie5.model.elastic import SubModel
from ernie5.report.report import write_report
from ernie5.report.router import kind_name
from ernie5.run.folder import RunFolder
from ernie5.sequence import Kind
from ernie5.train.load import load_run
from ernie5.train.packed_samples import batches_of
from ernie5.train.prepare import open_sources
from ernie5.train.usage import measure_usage

TEXT, READ, MADE = int(Kind.TEXT), int(Kind.IMAGE_UNDERSTAND), int(Kind.IMAGE_GENERATE)


def some_counts() -> np.ndarray:
    """Three layers (the last is the multi-token layer, which sees text alone), eight experts, top-2."""
    counts = np.zeros((3, len(Kind), 8), dtype=np.int64)
    counts[:, TEXT] = 10
    counts[:2, READ] = [40, 30, 20, 10, 5, 5, 5, 5]
    counts[:2, MADE] = [10, 40, 0, 0, 0, 0, 0, 50]
    return counts


def test_frequency_counts_positions_not_choices():
    often = frequency(np.array([[5, 5, 0, 10], [0, 0, 0, 0]]), top_k=2)
    np.testing.assert_allclose(often[0], [0.5, 0.5, 0.0, 1.0])  # ten positions, and all of them chose the last
    assert np.isnan(often[1]).all()


def test_entropy_between_its_bounds():
    same_two = np.array([7, 0, 7, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(normalised_entropy(np.stack([np.full(8, 3), same_two])), [1.0, log(2) / log(8)])
    np.testing.assert_allclose(normalised_entropy(np.array([3, 1])), -(0.75 * log(0.75) + 0.25 * log(0.25)) / log(2))
    assert np.isnan(normalised_entropy(np.zeros(4, dtype=int))) and np.isnan(normalised_entropy(np.array([9])))


def test_overlap_of_the_busiest_quarter():
    counts = some_counts()[0]
    assert busiest(counts)[MADE].nonzero()[0].tolist() == [1, 7] and busiest(counts)[READ].nonzero()[0].tolist() == [0, 1]
    iou = overlap(counts)
    assert iou[READ, MADE] == iou[MADE, READ] == pytest.approx(1 / 3)
    assert iou[READ, READ] == 1 and np.isnan(iou[Kind.AUDIO_GENERATE, READ])
    alone = np.array([[9, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 9]])
    assert overlap(alone)[0, 1] == 0  # experts that neither ever chose are not shared


@pytest.mark.parametrize("num_experts", [4, 8, 12])
def test_chance_overlap_is_the_mean_over_all_pairs_of_sets(num_experts):
    size = num_experts // 4
    first = set(range(size))
    values = sorted(len(first & set(other)) / len(first | set(other)) for other in combinations(range(num_experts), size))
    mean, above = chance_overlap(num_experts)
    assert mean == pytest.approx(np.mean(values))
    assert np.mean(np.array(values) > above + 1e-9) <= 0.05 < np.mean(np.array(values) >= above - 1e-9)


def test_chance_overlap_of_many_experts_is_a_seventh():
    assert chance_overlap(4096)[0] == pytest.approx(1 / 7, abs=1e-3)


@pytest.mark.parametrize(("positions", "num_experts", "top_k"), [(500, 16, 2), (3000, 64, 8), (200, 8, 1)])
def test_chance_spread_is_what_theory_says(positions, num_experts, top_k):
    entropy, peak = chance_spread(positions, num_experts, top_k)
    assert 1 - entropy == pytest.approx((num_experts - top_k) / (2 * positions * top_k * log(num_experts)), rel=0.3)
    even = top_k / num_experts
    assert even < peak < even + 4 * (even * (1 - even) / positions) ** 0.5
    assert chance_spread.__wrapped__(positions, num_experts, top_k) == (entropy, peak)


def test_chance_spread_at_its_ends():
    assert chance_spread(50, 4, 4) == (1.0, 1.0)  # every position takes every expert
    assert chance_spread(1, 8, 2) == (pytest.approx(log(2) / log(8)), 1.0)
    assert np.isnan(chance_spread(0, 8, 2)).all()


def test_a_study_is_the_same_after_json():
    study = study_of(some_counts(), top_k=2, num_layers=2, step=7, samples=3)
    again = RoutingStudy.from_json(json.loads(json.dumps(study.to_json())))
    assert again.kinds == (Kind.TEXT, Kind.IMAGE_UNDERSTAND, Kind.IMAGE_GENERATE) and (again.step, again.samples) == (7, 3)
    for name in ("positions", "entropy", "chance_entropy", "peak", "peak_expert", "chance_peak", "iou", "frequency"):
        np.testing.assert_allclose(getattr(again, name), getattr(study, name), atol=1e-5, err_msg=name)
    assert study.positions.tolist() == [[40, 60, 50]] * 2 + [[40, 0, 0]] and np.isnan(study.entropy[2, 1:]).all()
    assert (study.peak[0, 2], study.peak_expert[0, 2]) == (1.0, 7)
    assert study.shown == (0, 1) and study.layer_name(2) == "multi-token layer"
    assert json.loads(json.dumps(study.to_json()))["layers"][2]["iou"][0][1] is None
    with pytest.raises(ValueError, match="no position was routed"):
        study_of(np.zeros((1, len(Kind), 4)), 2, 1, 1, 1)


def damaged(change) -> dict:
    written = study_of(some_counts(), 2, 2, 7, 3).to_json()
    change(written)
    return written


@pytest.mark.parametrize("change", [
    lambda w: w.pop("chance"), lambda w: w.update(kinds=["taste"]), lambda w: w.update(layers=[]), lambda w: w.update(num_layers=9),
    lambda w: w["layers"][1].update(entropy=[1.0]), lambda w: w["layers"][0].update(iou=[[1.0]]), lambda w: w.update(num_experts=5),
    lambda w: w["layers"][0].update(peak="high"), lambda w: w.update(kinds=[]),
])
def test_a_damaged_study_costs_its_section_only(change, tmp_path):
    with pytest.raises(ValueError, match="routing.json is damaged .*; run ernie5 analyze again"):
        RoutingStudy.from_json(damaged(change))
    (tmp_path / "routing.json").write_text(json.dumps(damaged(change)))
    page = write_report(tmp_path).read_text()
    assert "routing.json is damaged" in page and "Not analyzed yet" in page


def test_the_report_draws_the_numbers_of_the_file(tmp_path):
    written = study_of(some_counts(), 2, 2, 7, 3).to_json()
    written["layers"][0]["iou"][1][2] = 0.77  # a number that no computation gives: what is drawn is read
    (tmp_path / "routing.json").write_text(json.dumps(written))
    page = write_report(tmp_path).read_text()
    section = page[page.index("<h2>Routing study") : page.index("<h2>Samples")]
    assert "after step 7 over the first 3 samples" in section and "2 of 8 experts" in section
    cells = re.findall(r'title="([\w ]+) and ([\w ]+): [\d.]+, chance[^"]*"[^>]*>([\d.]+)</b>', section)
    names = [kind_name(Kind[name.upper()]) for name in written["kinds"]]
    iou = [layer["iou"] for layer in written["layers"][:2]]
    assert cells == [(a, b, f"{layer[i][j]:.2f}") for layer in iou for i, a in enumerate(names) for j, b in enumerate(names) if i != j]
    bars = [float(width) for width in re.findall(r'<i style="left:0;width:([\d.]+)%', section)]
    np.testing.assert_allclose(bars, [100 * peak for layer in written["layers"][:2] for peak in layer["peak"]], atol=0.051)
    assert section.count("<svg") == 1 and "multi-token layer" in section[section.index("<details>") :]


@pytest.fixture(scope="module")
def loaded(micro):
    recipe, _, generator, _ = load_run(micro.folder, device="cpu")
    return recipe, RunFolder(micro.folder), generator


def test_usage_counts_every_position_of_the_training_sources(loaded):
    recipe, folder, generator = loaded
    counts = measure_usage(recipe, folder, generator, at_most=8)
    config = recipe.model
    assert counts.shape == (config.num_layers + 1, len(Kind), config.num_experts) and counts.dtype == torch.int64
    batches = list(batches_of(open_sources(recipe, recipe.data.sources, None), generator, 8))
    ids = [name for batch in batches for row in batch.sample_ids for name in row]
    assert len(ids) == len(set(ids)) == 8 * len(recipe.data.sources) and {name.split("/")[0] for name in ids} == set(recipe.data.sources)
    kinds = torch.cat([batch.kind.flatten() for batch in batches])
    positions = torch.bincount(kinds[kinds >= 0], minlength=len(Kind))
    assert (positions > 0).all()  # both roles of every medium
    assert (counts[: config.num_layers].sum(dim=-1) == positions * config.top_k).all()
    assert torch.equal(measure_usage(recipe, folder, generator, at_most=8), counts)


def test_usage_of_a_submodel(loaded):
    recipe, folder, generator = loaded
    live = tuple((0, 2) for _ in range(recipe.model.num_layers + 1))
    kept = tuple(i for i in range(recipe.model.num_layers) if i == 0 or i >= recipe.model.num_layers - 3)
    counts = measure_usage(recipe, folder, generator, 2, SubModel(kept, live, top_k=1))
    full = measure_usage(recipe, folder, generator, 2)
    assert (2 * counts.sum(dim=-1) == full.sum(dim=-1))[list(kept)].all() and not counts[:, :, [1, 3]].any()


def test_analyze_writes_prints_and_draws(micro, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(micro.folder, folder)
    assert main(["analyze", f"{folder}@4", "--n", "4"]) == 0
    out = capsys.readouterr().out
    study = RoutingStudy.from_json(json.loads((folder / "routing.json").read_text()))
    assert (study.step, study.samples) == (4, 4)
    row = next(line for line in out.splitlines() if line.startswith("text - "))
    other = [kind_name(kind) for kind in study.kinds].index(row[7:34].strip())
    mean = study.iou[: study.num_layers, 0, other].mean()
    assert row.split()[-5:] == [f"{v:.2f}" for v in (*study.iou[list(study.shown), 0, other], mean, study.chance_iou)]
    assert "Counted after step 4" in (folder / "report.html").read_text()


@pytest.mark.parametrize(("words", "message"), [(["nowhere"], "no such run folder"), ([".", "--n", "0"], "--n 0 must be at least 1"),
                                                (["."], "is not a run folder")])
def test_mistakes_are_explained(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["analyze", *words]) == 2
    assert message in capsys.readouterr().err and not list(Path().iterdir())


def test_help_fits_a_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["analyze", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
