"""Polite first, immediate second."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ernie5.run import signals
from ernie5.run.signals import EXIT_STOPPED, StopRequest

LOOP = """
import sys, time
from ernie5.run.signals import EXIT_STOPPED, StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print("saving", flush=True)
    if sys.argv[1] == "slow":
        time.sleep(60)
    print("saved", flush=True)
sys.exit(EXIT_STOPPED)
"""


def loop(how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", LOOP, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_finishes_and_saves(number: signal.Signals) -> None:
    with loop("quick") as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == EXIT_STOPPED == 75
    assert out == "saving\nsaved\n" and f"{number.name}: finishing this step and saving" in err


def test_second_signal_exits_at_once_but_a_doubled_one_does_not() -> None:
    with loop("slow") as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "saving\n"
        process.send_signal(signal.SIGTERM)  # the launcher's echo of the same Ctrl-C
        time.sleep(0.2)
        assert process.poll() is None
        time.sleep(1.0)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM and "exiting at once" in err
    assert time.monotonic() - started < 5


def test_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyError), StopRequest() as outer:
        with StopRequest() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner.requested and not outer.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert outer.requested
        raise KeyError
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_only_the_main_thread_may_ask() -> None:
    caught: list[Exception] = []

    def other() -> None:
        try:
            with StopRequest():
                pass
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(caught) == 1 and signals.SECOND_AFTER_S > 0
