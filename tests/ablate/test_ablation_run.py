"""Running the runs of an ablation: so many at a time, failures, signals, leftovers. Stand-ins for training are small scripts."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ernie5.ablate.plan import PlannedRun, Variant
from ernie5.ablate.run import Outcome, output_log, run_all
from ernie5.ablate.state import holder, is_finished, last_step
from ernie5.config import load_config
from ernie5.recipe import Recipe
from ernie5.run.ended import note_end
from ernie5.run.folder import RunFolder
from ernie5.run.lock import process_start, run_lock

TRAIN = """
import json, pathlib, signal, sys, time
folder, steps, wait, code = pathlib.Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
began = time.time()
print("hello from", folder.name, flush=True)
if code:
    sys.exit(code)
with open(folder / "metrics.jsonl", "a") as metrics:
    print(json.dumps({"step": steps}), file=metrics, flush=True)
while time.time() < began + wait:
    time.sleep(0.01)
    if stop:
        print("saved", flush=True)
        sys.exit(75)
last = folder / "checkpoints" / f"step-{steps:08d}"
last.mkdir(parents=True, exist_ok=True)
(last / "COMMIT").write_text("")
(folder / "eval.json").write_text(json.dumps({"step": steps}))
(folder / "times").write_text(json.dumps([began, time.time()]))
"""


@pytest.fixture
def runs(tmp_path) -> list[PlannedRun]:
    names = [f"v{i}-seed0" for i in range(4)]
    recipes = [load_config(Recipe, {"run": {"name": name, "dir": str(tmp_path / name)}, "train": {"steps": 3}}) for name in names]
    return [PlannedRun(Variant({}, recipe.run.name[:2], ()), 0, recipe) for recipe in recipes]


def stand_in(wait: float = 0.0, codes: dict[str, int] | None = None):
    def command(run: PlannedRun) -> list[str]:
        return [sys.executable, "-S", "-c", TRAIN, str(run.folder.path), "3", str(wait), str((codes or {}).get(run.name, 0))]
    return command


def train(runs, jobs=1, **settings) -> tuple[Outcome, int]:
    """The outcome, and how often it reported."""
    reports = []
    outcome = run_all(runs, jobs, lambda: reports.append(1), stand_in(**settings))
    return outcome, len(reports)


def times(run: PlannedRun) -> list[float]:
    return json.loads((run.folder.path / "times").read_text())


def test_all_are_trained_so_many_at_a_time(runs) -> None:
    outcome, reports = train(runs, jobs=2, wait=0.3)
    assert outcome == Outcome() and reports == 4 and all(is_finished(run.folder, 3) for run in runs)
    changes = sorted((when, change) for run in runs for when, change in zip(times(run), (1, -1), strict=True))
    together = [sum(change for _, change in changes[: i + 1]) for i in range(len(changes))]
    assert max(together) == 2
    assert load_config(Recipe, runs[0].folder.recipe) == runs[0].recipe and output_log(runs[0]).read_text() == "hello from v0-seed0\n"


def test_what_is_finished_is_left_alone(runs) -> None:
    train(runs[:2])
    before = [times(run) for run in runs[:2]]
    (runs[1].folder.path / "eval.json").write_text('{"step": 2}')  # of an earlier step: not finished
    assert train(runs)[1] == 3
    assert times(runs[0]) == before[0] and times(runs[1]) != before[1]


def test_a_run_that_ended_with_its_data_is_finished(runs) -> None:
    folder = runs[0].folder.create()
    (folder.checkpoints / "step-00000002").mkdir()
    (folder.checkpoints / "step-00000002" / "COMMIT").touch()
    note_end(folder, 2)
    assert not is_finished(folder, 3)  # nor evaluated yet
    (folder.path / "eval.json").write_text('{"step": 2}')
    assert is_finished(folder, 3) and train(runs)[1] == 3 and not (folder.path / "times").exists()
    note_end(folder, 1)  # of an earlier end
    assert not is_finished(folder, 3)


def test_a_failure_is_told_and_the_others_go_on(runs, caplog) -> None:
    with caplog.at_level(logging.INFO, "ernie5"):
        outcome, _ = train(runs, codes={"v1-seed0": 3, "v2-seed0": 75})
    assert outcome.failed.keys() == {"v1-seed0", "v2-seed0"} and not outcome.stopped
    assert outcome.failed["v1-seed0"] == "failed with exit code 3" and "stopped from outside" in outcome.failed["v2-seed0"]
    assert f"v1-seed0 failed with exit code 3; the end of {output_log(runs[1])}:\n    hello from v1-seed0" in caplog.text
    assert [is_finished(run.folder, 3) for run in runs] == [True, False, False, True]
    outcome, _ = train(runs)
    assert outcome == Outcome() and output_log(runs[1]).read_text() == "hello from v1-seed0\n" * 2


def test_an_end_without_evaluation_is_a_failure(runs) -> None:
    scripts = {"v0-seed0": "pass", "v1-seed0": "import os; os.kill(os.getpid(), 9)"}
    outcome = run_all(runs[:2], 1, lambda: None, lambda run: [sys.executable, "-S", "-c", scripts[run.name]])
    assert outcome.failed == {"v0-seed0": "ended without an evaluation", "v1-seed0": "was killed (Killed)"}


def test_a_signal_stops_the_children_and_starts_no_other(runs) -> None:
    def interrupt() -> None:
        while not all(last_step(run.folder) for run in runs[:2]):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    outcome, _ = train(runs, jobs=2, wait=30)
    assert outcome.stopped and not outcome.failed
    assert all(output_log(run).read_text().endswith("saved\n") for run in runs[:2]) and not runs[2].folder.path.exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_error_of_ours_leaves_no_child_behind(runs) -> None:
    def command(run: PlannedRun) -> list[str]:
        if run is runs[1]:
            while not last_step(runs[0].folder):  # until the first one minds signals
                time.sleep(0.01)
            raise OSError("no space left")
        return stand_in(wait=30)(run)

    with pytest.raises(OSError, match="no space left"):
        run_all(runs, 2, lambda: None, command)
    assert output_log(runs[0]).read_text().endswith("saved\n")


def test_a_run_that_a_killed_ablation_left_behind_is_waited_for(runs, caplog) -> None:
    folder = runs[0].folder.create()
    with subprocess.Popen([*stand_in(wait=0.5)(runs[0])], stdout=subprocess.DEVNULL) as left:
        owner = {"pid": left.pid, "host": os.uname().nodename, "started": process_start(left.pid)}
        folder.lock.write_text(json.dumps(owner))
        assert holder(folder) == left.pid
        outcome, reports = train(runs[:2])
    assert outcome == Outcome() and reports == 2
    assert not output_log(runs[0]).exists()  # nobody trained it a second time
    assert f"v0-seed0 is being trained by process {left.pid} already" in caplog.text and holder(folder) is None


def test_a_leftover_that_dies_is_trained_on(runs) -> None:
    runs[0].folder.create()
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(0.3)"]) as left:
        owner = {"pid": left.pid, "host": os.uname().nodename, "started": process_start(left.pid)}
        runs[0].folder.lock.write_text(json.dumps(owner))
        assert train(runs[:1])[0] == Outcome()
    assert output_log(runs[0]).read_text() == "hello from v0-seed0\n"


def test_a_leftover_that_takes_its_lock_late_is_waited_for(runs) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(0.5)"]) as left:
        codes = {"v0-seed0": 2}  # as train ends when the folder is in use

        def command(run: PlannedRun) -> list[str]:
            words = stand_in(codes=dict(codes))(run)
            if codes:
                owner = {"pid": left.pid, "host": os.uname().nodename, "started": process_start(left.pid)}
                run.folder.lock.write_text(json.dumps(owner))
                codes.clear()
            return words

        assert run_all(runs[:1], 1, lambda: None, command) == Outcome()
    assert output_log(runs[0]).read_text() == "hello from v0-seed0\n" * 2


def test_state_of_folders_that_are_odd(tmp_path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert last_step(folder) == 0 and holder(folder) is None and not is_finished(folder, 3)
    folder.create()
    folder.metrics.write_text('{"step": 1}\n{"step": 2, "x": "' + "y" * 40_000 + '"}\n{"step": 3, "lo')
    assert last_step(folder) == 0  # the last whole line is longer than what is read
    folder.metrics.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert last_step(folder) == 2
    with run_lock(folder.lock):
        assert holder(folder) == os.getpid()
    assert holder(folder) is None
    folder.lock.write_text('{"pid": "x", ')
    assert holder(folder) is None and Path(folder.lock).exists()
