"""What an ablation found: the figures, the table, the page."""

import json
import math
import re
from xml.etree import ElementTree

import pytest
import torch
from html_page import EVIL, Page

from ernie5.ablate.page import write_page
from ernie5.ablate.plan import plan_ablation
from ernie5.ablate.plots import PALETTE, colour_of, ticks
from ernie5.ablate.results import STUDENT_T, collect, difference, write_results
from ernie5.ablate.table import table
from ernie5.config import to_yaml
from ernie5.recipe import Recipe
from ernie5.run.ended import note_end

LOSSES = {("off", 0): 1.0, ("off", 1): 2.0, ("off", 2): 3.0, ("on", 0): 1.1, ("on", 1): 2.11, ("on", 2): 3.09}


def finish(run, text: float, steps: int = 4) -> None:
    """As if it had been trained and evaluated."""
    folder = run.folder.create()
    (folder.checkpoints / f"step-{steps:08d}").mkdir()
    (folder.checkpoints / f"step-{steps:08d}" / "COMMIT").touch()
    evaluation = {"loss": {"text": text, "audio": 0.0, "marginal/text": 4.0}, "text_to_image": {"accuracy": 0.5 + text / 10}}
    (folder.path / "eval.json").write_text(json.dumps({**evaluation, "step": steps}))
    (folder.samples / "eval-00000002.json").write_text(json.dumps({"loss": {"text": 2 * text}, "step": 2}))
    lines = [{"step": s, "loss/text": text + 1 / s, "loss/vision": 0.0, "router/max_load": float(s)} for s in range(1, steps + 1)]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "base.yaml").write_text(to_yaml(Recipe()))
    (tmp_path / "a.yaml").write_text(f"""base: base.yaml
title: {json.dumps(EVIL)}
axes: {{switch: {{"off": {{}}, "on": {{train.balance_speed: 0}}}}}}
seeds: [0, 1, 2]
run: {{tokenizers: x}}
train: {{steps: 4}}
""")
    return plan_ablation(tmp_path / "a.yaml", tmp_path / "out", {})


@pytest.fixture
def finished(plan):
    for run in plan.runs:
        finish(run, LOSSES[run.variant.name, run.seed])
    return plan


def test_means_spreads_and_differences_seed_by_seed(finished) -> None:
    off, on = collect(finished)["variants"]
    assert off["metrics"]["loss/text"] == {"mean": 2.0, "spread": 1.0, "n": 3, "difference": None}
    found = on["metrics"]["loss/text"]["difference"]
    assert math.isclose(found["mean"], 0.1) and math.isclose(found["spread"], 0.01, rel_tol=1e-9) and found["n"] == 3
    assert math.isclose(found["relative"], 0.05) and found["clear"]  # 0.1 is more than 4.3 * 0.01 / sqrt(3), though the seeds spread by 1
    assert "loss/audio" not in off["metrics"] and "loss/vision" not in off["metrics"]
    assert off["metrics"]["router/max_load"]["mean"] == 4.0
    assert collect(finished)["metrics"] == ["loss/text", "accuracy/text_to_image", "router/max_load"]


def test_runs_that_ended_with_their_data_count(finished) -> None:
    finish(finished.runs[0], 1.0, steps=3)
    (finished.runs[0].folder.checkpoints / "step-00000004" / "COMMIT").unlink()
    assert not collect(finished)["variants"][0]["runs"][0]["finished"]
    note_end(finished.runs[0].folder, 3)
    found = collect(finished)["variants"][0]
    assert found["runs"][0]["finished"] and found["runs"][0]["step"] == 3 and found["metrics"]["loss/text"]["n"] == 3
    assert "complete" in Page(write_page(finished, write_results(finished)).read_text()).text


def test_the_interval_is_students() -> None:
    for n, t in ((2, 12.706), (3, 4.303), (4, 3.182), (10, 2.262), (40, 2.262)):
        spread = torch.tensor([1.0] * (n // 2) + [-1.0] * (n // 2) + [0.0] * (n % 2)).std().item()
        for factor in (0.99, 1.01):
            shift = factor * t * spread / math.sqrt(n)
            values = [1.0 + shift] * (n // 2) + [-1.0 + shift] * (n // 2) + [shift] * (n % 2)
            assert difference([(value, 0.0) for value in values])["clear"] == (factor > 1)
    assert len(STUDENT_T) == 9 and not difference([(2.0, 1.0)])["clear"]


def test_gaps_are_shown_and_pairs_need_both(plan) -> None:
    for run in plan.runs:
        if (run.variant.name, run.seed) not in {("off", 0), ("on", 2)}:
            finish(run, LOSSES[run.variant.name, run.seed])
    result = write_results(plan)
    assert json.loads((plan.folder / "ablation.json").read_text()) == result
    on = result["variants"][1]
    assert on["metrics"]["loss/text"]["n"] == 2 and on["metrics"]["loss/text"]["difference"]["n"] == 1
    assert "not finished: off-seed0, on-seed2" in table(result)
    assert "4 of 6 runs" in Page(write_page(plan, result).read_text()).text


def test_nothing_finished_yet(plan) -> None:
    result = write_results(plan)
    assert result["metrics"] == [] and "not finished: off-seed0" in table(result)
    page = Page(write_page(plan, result).read_text())
    assert "0 of 6 runs" in page.text and "off-seed0 – not begun" in page.text and "Held-out loss" not in page.text


def test_the_table(finished) -> None:
    lines = table(collect(finished)).splitlines()
    assert lines[0].split() == ["text", "text", "→", "image", "max", "load"]
    assert lines[1].split()[:3] == ["off", "2.0000", "±1.0000"]
    assert lines[2].split()[:4] == ["on", "2.1000", "±0.9950", "+5.00%*"]
    assert "difference to off, seed by seed" in lines[-1]
    narrow = table(collect(finished), columns=40)
    assert max(len(line) for line in narrow.splitlines()[:-1]) <= 40 and narrow.count("\noff") == 3


def test_the_page_is_one_safe_file_with_every_seed_as_a_dot(finished) -> None:
    html = write_page(finished, write_results(finished)).read_text(encoding="utf-8")
    page = Page(html)
    assert not page.all("script") + page.all("link") + page.all("iframe") and "<script>alert(1)</script>" in page.text
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    for link in page.all("a"):
        assert (finished.folder / link["href"]).parent.is_dir()
    for chart in (charts := re.findall(r"<svg.*?</svg>", html, re.DOTALL)):
        ElementTree.fromstring(chart)
    assert len(charts) == 4  # held-out and training text loss, each with its distance
    dots = [a["title"] for a in page.all("i") if a.get("class") == "dot"]
    assert dots[:9] == ["1", "2", "3", "1.1", "2.11", "3.09", "10%", "5.5%", "3%"]
    assert "+5.00%" in page.text and "complete" in page.text
    worse = re.findall(r'<div class="(better|worse)">([^<]*)', html)
    assert ("worse", "+5.00%") in worse and ("better", "+0.010") in worse


def test_colours_and_ticks() -> None:
    assert len({colour_of(i) for i in range(len(PALETTE))}) == len(PALETTE)
    assert colour_of(len(PALETTE)) == PALETTE[1] != colour_of(0) == PALETTE[0]
    for low, high in ((0.0, 1.0), (3.54, 3.575), (-0.02, 0.013), (1e4, 9e4)):
        found = ticks(low, high, 4)
        assert 2 <= len(found) <= 7 and all(low <= t <= high for t in found)
        assert all(math.isclose(b - a, found[1] - found[0]) for a, b in zip(found, found[1:], strict=False))
