"""Hangs are found, every rank that can shows its stacks, and the message names the one that hangs. Ranks are small processes here."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ernie5.run.watchdog import Sign, Watchdog, forget_hang, who_hangs

ROOT = Path(__file__).parents[2]
# both ranks do three steps; then rank 1 does something else, and rank 0 waits for it
RANK = """
import ctypes, os, signal, sys, time
from pathlib import Path
from ernie5.run.watchdog import Watchdog
rank, logs, kind = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def wait_for_others():
    while True: time.sleep(0.01)
def spin():
    while True: time.sleep(0.01)
(logs / f"ready-{rank}").touch()
while not (logs / f"ready-{1 - rank}").exists(): time.sleep(0.01)
with Watchdog(logs, rank, 2, 1.0) as watch:
    for step in (1, 2, 3):
        time.sleep(0.05)
        if not (kind == "behind" and rank == 1 and step == 3):
            watch.beat(step)
    if rank == 0:
        wait_for_others()
    match kind:
        case "stop": os.kill(os.getpid(), signal.SIGSTOP)
        case "frozen": ctypes.PyDLL(None).sleep(1000)
        case "behind": spin()
"""


def run_ranks(logs: Path, kind: str) -> list[int | None]:
    """Exit codes of both ranks; None for one that had to be killed."""
    logs.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(logs), kind], stderr=subprocess.DEVNULL,
                              env=environment | {"TORCHELASTIC_ERROR_FILE": str(logs / f"note-{rank}.json")}) for rank in (0, 1)]
    try:
        ranks[0].wait(timeout=60)
        if kind == "behind":
            ranks[1].wait(timeout=60)
        while kind == "frozen" and not (logs / "rank-1.log").read_text():
            time.sleep(0.05)  # its own timer is a little later
        return [rank.poll() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


@pytest.mark.parametrize(("kind", "who"), [
    ("stop", "rank 1 hung: stopped or frozen, without any sign"), ("frozen", "rank 1 hung: stopped or frozen"),
    ("behind", "rank 1 hung: it is in <string>:"),
])
def test_a_hang_ends_the_ranks_names_the_one_and_shows_the_stacks(tmp_path, kind, who):
    logs = tmp_path / "logs"
    assert run_ranks(logs, kind) == [124, 124 if kind == "behind" else None]
    zero, one = ((logs / f"rank-{rank}.log").read_text() for rank in (0, 1))
    message = f"no step has ended for 1 s (train.watchdog_s): {who}"
    assert message in zero and "in wait_for_others" in zero
    note = json.loads((logs / "note-0.json").read_text())
    assert note["code"] == 124 and note["message"]["message"].startswith(message)
    assert {"stop": not one, "frozen": "most recent call first" in one, "behind": "in spin" in one and message in one}[kind]


def test_steps_in_time_and_announced_phases_are_no_hang(tmp_path):
    with Watchdog(tmp_path, 0, 1, 0.4) as watch:
        for step in range(6):
            time.sleep(0.1)
            watch.beat(step)
        with watch.paused("evaluation"):
            time.sleep(0.9)
        time.sleep(0.1)
    assert not list(tmp_path.glob("hang/*")) and not [t for t in threading.enumerate() if t.name == "watchdog"]
    with Watchdog(tmp_path / "nowhere", 0, 1, 0.0) as watch:  # off: it opens nothing
        watch.beat(1)


def test_what_an_earlier_hang_left_is_forgotten(tmp_path):
    (tmp_path / "hang").mkdir()
    (tmp_path / "hang" / "rank-0.json").touch()
    forget_hang(tmp_path)
    forget_hang(tmp_path)
    assert not (tmp_path / "hang").exists()


@pytest.mark.parametrize(("signs", "said"), [
    ({0: Sign(4, "a", True), 2: Sign(4, "b", True)}, "rank 1 hung: stopped or frozen"),
    ({0: Sign(4, "a", True), 1: Sign(3, "b", True), 2: Sign(4, "c", False)}, "rank 1 hung: it waits for others in b, after step 3"),
    ({0: Sign(4, "a", True), 1: Sign(4, "b", False), 2: Sign(4, "c", True)}, "rank 1 hung: it is in b, after step 4"),
    ({rank: Sign(4, "a", True) for rank in range(3)}, "no rank stands out; rank 0 waits for others in a, after step 4; rank 1"),
    ({}, "ranks 0, 1, 2 hung"),
])
def test_who_hangs(signs, said):
    assert who_hangs(signs, 3).startswith(said)
