"""`ernie5 analyze RUN_DIR`: the report's routing study on a user's own run -> routing.json, and its place in report.html.

    checkpoint -> usage of every expert over the first samples of every training source -> numbers -> file, page
"""

from __future__ import annotations

import json
from pathlib import Path

from ernie5.analysis.routing_study import RoutingStudy, study_of
from ernie5.report.report import write_report
from ernie5.run.files import atomic_write
from ernie5.run.folder import RunFolder
from ernie5.train.load import load_run
from ernie5.train.usage import measure_usage


def analyze_run(spec: str | Path, n: int = 200) -> RoutingStudy:
    """Study the routers of `RUN_DIR` (its latest checkpoint) or `RUN_DIR@STEP` on `n` samples of every source.

    Writes RUN_DIR/routing.json and the report anew. ValueError when there is no checkpoint, or a source is missing.
    """
    recipe, model, generator, saved = load_run(spec)
    folder = RunFolder(Path(recipe.run.folder))
    counts = measure_usage(recipe, folder, generator, n)
    study = study_of(counts.numpy(), model.config.top_k, model.config.num_layers, saved.step, n)
    atomic_write(folder.path / "routing.json", json.dumps(study.to_json(), indent=1).encode())
    write_report(folder.path)
    return study
