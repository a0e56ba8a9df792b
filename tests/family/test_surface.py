"""The trade-off surface: grid, going on after a kill, Pareto front, budgets, its place in the report."""

import json
import shutil
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from ernie5.analysis.trade_off import pareto, pick, read_surface, size_of
from ernie5.cli.main import main
from ernie5.family import surface as surface_module
from ernie5.family.decode_speed import decode_speed
from ernie5.family.grid import Grid
from ernie5.family.surface import ROUNDS, measure_surface
from ernie5.report.read import read_run
from ernie5.report.surface import submodels
from ernie5.run.folder import RunFolder

BRIEFLY = partial(decode_speed, tokens=2)
GRID = Grid(layers=(6, 4), experts=(8,), top_k=(4, 1))


class Killed(BaseException):
    """Nothing may catch it."""


def point(layers: int, top_k: int, active: int, loss: float, tokens_per_s: float = 100.0, total: int = 0) -> dict:
    return {"layers": layers, "experts": 8, "top_k": top_k, "active": active, "total": total or 2 * active, "tokens_per_s": tokens_per_s,
            "loss": {"total": loss}}


POINTS = [point(8, 4, 1000, 2.0), point(8, 2, 800, 2.1, 120), point(6, 4, 800, 2.3, 130), point(6, 2, 600, 2.4, 150),
          point(4, 1, 300, 3.0, 220), point(4, 4, 500, 3.1, 160)]


@pytest.fixture(scope="module")
def measured(deep, tmp_path_factory) -> Path:
    """A copy of the deep run with a grid of four points, media included."""
    folder = tmp_path_factory.mktemp("measured") / "run"
    shutil.copytree(deep.folder, folder)
    with mock.patch.object(surface_module, "decode_speed", BRIEFLY):
        measure_surface(folder, GRID, n=1, media=True)
    return folder


def surface_of(folder: Path) -> dict:
    return json.loads((folder / "elastic.json").read_text())


def test_every_point_says_what_it_is_worth_and_costs(measured) -> None:
    surface = surface_of(measured)
    assert [size_of(p) for p in surface["points"]] == [(6, 8, 4), (6, 8, 1), (4, 8, 4), (4, 8, 1)]
    assert surface["step"] == 2 and surface["n"] == 1 and surface["seed"] == 0 and surface["device"] == "cpu"
    full = surface["points"][0]
    for p in surface["points"]:
        loss = p["loss"]
        assert loss["total"] == pytest.approx(loss["text"] + 0.3 * loss["multi_token"] + loss["vision"] + loss["audio"])
        assert loss["marginal/text"] == full["loss"]["marginal/text"] > 0
        assert set(p["rows"]) == {f"{a}_to_{b}" for k in ("image", "video", "audio") for a, b in (("text", k), (k, "text"))}
        assert p["rows"]["text_to_image"]["n"] == 1
        assert len(p["speeds"]) == ROUNDS and p["tokens_per_s"] == sorted(p["speeds"])[ROUNDS // 2] > 0
        assert p["active"] < p["total"] and p["active"] <= full["active"] and p["total"] <= full["total"]
    assert len({p["loss"]["total"] for p in surface["points"]}) == 4  # they are four different models


def test_a_finished_grid_measures_nothing_again(measured) -> None:
    before = (measured / "elastic.json").read_bytes()
    with mock.patch.object(surface_module, "extract", side_effect=AssertionError("measured again")):
        measure_surface(measured, GRID, n=1, media=True)
        measure_surface(measured, Grid((6,), (8,), (4,)), n=1)
    assert (measured / "elastic.json").read_bytes() == before


def test_a_killed_grid_goes_on(measured, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    (folder / "elastic.json").unlink()
    original, calls = surface_module.loss_on, []

    def dying(*args):
        calls.append(args)
        if len(calls) == 3:
            raise Killed
        return original(*args)

    with mock.patch.object(surface_module, "loss_on", dying), pytest.raises(Killed):
        measure_surface(folder, GRID, n=1)
    half = surface_of(folder)
    assert ["loss" in p for p in half["points"]] == [True, True, False, False]
    with pytest.raises(ValueError, match="is unfinished .*4 points.* run `ernie5 eval .*@2 --grid` first"):
        read_surface(RunFolder(folder), 2)
    calls = [0] * 9  # past the place where it died
    with mock.patch.object(surface_module, "loss_on", dying), mock.patch.object(surface_module, "decode_speed", BRIEFLY):
        again = measure_surface(folder, GRID, n=1)
    assert len(calls) == 9 + 2
    assert [p["loss"] for p in again["points"]] == [p["loss"] for p in surface_of(measured)["points"]]


def test_new_points_join_and_all_speeds_are_taken_in_turn(measured, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    monkeypatch.setattr(surface_module, "decode_speed", lambda *args: 7.0)
    points = measure_surface(folder, Grid((6,), (4,), (1,)), n=1)["points"]
    assert [size_of(p) for p in points] == [(6, 8, 4), (6, 8, 1), (6, 4, 1), (4, 8, 4), (4, 8, 1)]
    assert all(p["speeds"] == [7.0] * ROUNDS for p in points) and "rows" not in points[2] and "rows" in points[0]


def test_another_number_of_samples_measures_anew(measured, tmp_path, monkeypatch, caplog) -> None:
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    monkeypatch.setattr(surface_module, "decode_speed", lambda *args: 7.0)
    surface = measure_surface(folder, Grid((6,), (8,), (4,)), n=2)
    assert len(surface["points"]) == 1 and surface["n"] == 2 and "measured with n = 1, now it is 2: all points" in caplog.text


def test_points_of_another_step_are_refused(measured) -> None:
    with pytest.raises(ValueError, match="at step 2 and the checkpoint is that of step 4; run .*@4 --grid` first, or export .*@2"):
        read_surface(RunFolder(measured), 4)


def test_a_damaged_surface_is_named(tmp_path) -> None:
    for content in ("{", "[]", '{"points": [{"layers": "x"}], "step": 1}', '{"points": []}'):
        (tmp_path / "elastic.json").write_text(content)
        with pytest.raises(ValueError, match="elastic.json is damaged; remove it and run"):
            read_surface(RunFolder(tmp_path), 1)


def test_pareto() -> None:
    assert pareto(POINTS) == [True, True, False, True, True, False]
    assert pareto(POINTS, "tokens_per_s", least=False) == [True, True, True, True, True, False]
    assert pareto([point(8, 4, 5, 1.0), point(8, 2, 5, 1.0), point(8, 1, 5, 1.5)]) == [True, True, False]


@pytest.mark.parametrize(("budget", "wanted"), [
    ("active=100%", (8, 4)), ("active=90%", (8, 2)), ("active=80%", (8, 2)), ("active=79.9%", (6, 2)), ("active=0.6k", (6, 2)),
    ("active=599", (4, 1)), ("total=50%", (4, 1)), ("tokens_per_s=120%", (8, 2)), ("tokens_per_s=200", (4, 1)),
    ("active=80%,tokens_per_s=125%", (6, 4)),
])
def test_the_best_point_within_a_budget(budget, wanted) -> None:
    found = pick(POINTS, budget)
    assert (found["layers"], found["top_k"]) == wanted


@pytest.mark.parametrize(("budget", "message"), [
    ("actve=50%", "there is no budget 'actve'; use active, total or tokens_per_s"),
    ("active", "'' is no amount; write for example active=50%"),
    ("active=-3", "'-3' is no amount"),
    ("active=20%", r"no measured point has active <= 200; the smallest is 4 layers, 8 experts, top-1 with 300 \(30.0% of the full model\)"),
    ("tokens_per_s=300%", r"tokens_per_s >= 300; the fastest is 4 layers, 8 experts, top-1 with 220 \(220.0%"),
    ("active=40%,tokens_per_s=300", "no measured point that the rest of the budget allows has tokens_per_s"),
])
def test_budgets_that_cannot_be_met(budget, message) -> None:
    with pytest.raises(ValueError, match=message):
        pick(POINTS, budget)


def test_the_report_shows_the_front_with_its_commands(measured, deep) -> None:
    run = read_run(measured)
    section = submodels(run)
    assert section is not None
    for p in surface_of(measured)["points"]:
        assert (f"{p['layers']} × {p['experts']}, top-{p['top_k']}" in section) == p["pareto"]
    assert f"ernie5 export</span> <span style=\"white-space:nowrap\">{measured}</span>" in section and section.count("<svg") == 3
    unmeasured = submodels(read_run(deep.folder))
    assert unmeasured is not None and "Not measured yet" in unmeasured and "--grid" in unmeasured


def test_the_command_prints_a_line_for_each(measured, capsys, monkeypatch) -> None:
    reports = []
    monkeypatch.setattr("ernie5.report.report.write_report", reports.append)
    assert main(["eval", str(measured), "--grid", "--layers", "6,4", "--experts", "8", "--top-k", "4,1", "--n", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "text_to_image" in lines[0] and reports == [measured]
    for line, p in zip(lines[1:], surface_of(measured)["points"], strict=True):
        assert line.startswith("*" if p["pareto"] else " ")
        assert line.strip("* ").split()[:4] == [str(p["layers"]), "8", str(p["top_k"]), f"{p['active']:,}"]


@pytest.mark.parametrize(("words", "message"), [
    (["--layers", "6"], "belong to a grid of sub-models; add --grid"),
    (["--grid", "--layers", "6;4"], "--layers 6;4 must be whole numbers with commas between them"),
    (["--grid", "--layers", "3"], "--layers 3 must lie between 4 and 6"),
    (["--grid", "--experts", "7"], "--experts 7 must be a multiple of elastic.expert_blocks = 2"),
    (["--grid", "model.dim=8"], "an evaluation can only change evaluate."),
])
def test_mistakes_on_the_command_line(deep, capsys, words, message) -> None:
    assert main(["eval", str(deep.folder), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (deep.folder / "elastic.json").exists()
