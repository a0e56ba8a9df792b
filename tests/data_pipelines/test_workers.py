"""Worker processes: the same samples in the same order, whatever happens to them, and none is left when the run ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
import torch

from ernie5.data_pipelines.coded_bytes import from_bytes, to_bytes
from ernie5.data_pipelines.encode import CodedSample
from ernie5.data_pipelines.loader import BatchShape
from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.workers import Closed, WorkerDied, Workers
from ernie5.run.lock import process_start
from ernie5.sequence import Modality, Role, Sample, Segment
from ernie5.tokenizers.base import VisionCodes

ROOT = Path(__file__).parents[2]
BENCHMARKS = str(ROOT / "docs" / "benchmarks")
sys.path.insert(0, BENCHMARKS)
from data_kills import fork, make_loader, read  # noqa: E402

SHAPE = BatchShape(4, 160, 4)


def work(draw: Draw) -> bytes:
    """What a test asks of its workers."""
    number, source, place = draw
    match source:
        case "damaged":
            raise ValueError(f"{place} is cut short")
        case "far":
            raise ConnectionError("bucket is out of reach")
        case "bug":
            raise KeyError("surprise")
        case "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        case "slow":
            time.sleep(60)
        case "uneven":
            time.sleep(0.02 * (place % 3))
    return f"{os.getpid()} {source} {place}".encode() if number == 2**40 + place else b"another number"


@pytest.fixture
def pool():
    pool = Workers(work, 2)
    yield pool
    pool.close()


def asked(source: str, place: int) -> Draw:
    return Draw(2**40 + place, source, place)


def pids(pool: Workers) -> list[int]:
    return [child.pid for child in pool.children]


def gone(numbers: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(process_start(pid) for pid in numbers) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(process_start(pid) for pid in numbers)


def test_results_come_in_the_order_of_the_requests(pool) -> None:
    results = [future.result().split() for future in [pool.submit(asked("uneven", i)) for i in range(12)]]
    assert [int(place) for _, _, place in results] == list(range(12))
    assert {int(pid) for pid, _, _ in results} == set(pids(pool))


def test_a_killed_worker_is_replaced_and_its_work_done_again(pool, caplog) -> None:
    first = pids(pool)
    future = pool.submit(asked("uneven", 2))
    os.kill(first[0], signal.SIGKILL)
    os.kill(first[1], signal.SIGKILL)
    assert future.result().endswith(b"uneven 2") and pool.submit(asked("any", 1)).result().endswith(b"any 1")
    assert "a data worker died (SIGKILL) at uneven/2" in caplog.text and gone(first, 2.0)


def test_a_sample_that_kills_every_worker_ends_the_run_with_its_name(pool) -> None:
    with pytest.raises(WorkerDied, match=r"3 data workers in a row died over sample deadly/5 \(SIGKILL\); if memory ran out"):
        pool.submit(asked("deadly", 5)).result()
    assert [pool.submit(asked("any", i)).result() for i in range(4)]  # the pool itself is alive


def test_errors_come_back_as_what_they_are(pool) -> None:
    for source, kind, said in (("damaged", ValueError, "3 is cut short"), ("far", ConnectionError, "out of reach"),
                               ("bug", RuntimeError, "failed on bug/3:\nTraceback")):
        with pytest.raises(kind, match=said):
            pool.submit(asked(source, 3)).result()
    assert pool.submit(asked("any", 1)).result().endswith(b"any 1")


def test_closing_ends_whatever_is_under_way() -> None:
    pool = Workers(work, 2)
    futures, workers = [pool.submit(asked("slow", i)) for i in range(5)], pids(pool)
    time.sleep(0.05)
    started = time.monotonic()
    pool.close()
    assert time.monotonic() - started < 4 and gone(workers, 0.0)
    assert all(f.cancelled() or isinstance(f.exception(), Closed) for f in futures)


def test_leaving_in_mid_epoch_is_quick_and_leaves_nothing() -> None:
    workers: list[int] = []
    started = time.monotonic()
    for number in range(8):
        loader = make_loader(workers=1 + number % 2)
        workers += pids(loader.stream.fetch.workers)
        for _ in range(number % 3):
            loader.next(SHAPE, SHAPE)
        loader.close()
        assert len(loader.stream.fetch.asked) == 0
    assert time.monotonic() - started < 8 * 4 and gone(workers, 0.0)
    for pid in workers:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # it was waited for


def test_closing_fifty_times_while_a_batch_is_made_leaves_nothing() -> None:
    def slow(source: str, place: int) -> Sample:
        time.sleep(0.005)
        return read(source, place)

    workers, files, threads, cut_short = [], len(os.listdir("/dev/fd")), threading.active_count(), 0
    for number in range(50):
        loader = make_loader(workers=1 + number % 2, window=25 * (number % 3 > 1), read=slow)
        workers += pids(loader.stream.fetch.workers)
        being_made = loader.worker.submit(loader.make, SHAPE)
        time.sleep(0.003 * (number % 8))
        loader.close()
        assert being_made.done() and len(loader.stream.fetch.asked) == 0
        error = CancelledError() if being_made.cancelled() else being_made.exception()
        cut_short += isinstance(error, Closed | CancelledError) or "after shutdown" in str(error)
    assert cut_short == 50 and gone(workers, 0.0)
    assert len(os.listdir("/dev/fd")) == files and threading.active_count() == threads


EXIT = """
import os, sys
from data_kills import make_loader
from ernie5.data_pipelines.loader import BatchShape
shape = BatchShape(4, 160, 4)
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        loader = make_loader(workers=1 + number % 2)
        loader.next(shape, shape)
        print(*(child.pid for child in loader.stream.fetch.workers.children), flush=True)
        sys.exit(3)
    print(-os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def test_leaving_in_mid_epoch_without_closing_ends_the_workers() -> None:
    """The interpreter ends as it always does, while the next batch is made."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([BENCHMARKS, str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", EXIT, "4"], env=environment, capture_output=True, text=True, timeout=60)
    lines = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert done.returncode == 0 and done.stderr == "" and lines[1::2] == [[-3]] * 4
    assert gone([pid for line in lines[::2] for pid in line], 3.0) and len(lines) == 8


def test_workers_end_with_their_trainer(tmp_path) -> None:
    def trainer() -> None:
        torch.set_num_threads(1)
        pools = [Workers(work, 2), Workers(work, 1)]  # later ones must not keep the first ones' sockets open
        (tmp_path / "half").write_text(" ".join(str(pid) for pool in pools for pid in pids(pool)))
        (tmp_path / "half").rename(tmp_path / "pids")
        time.sleep(60)

    pid = fork(trainer)
    while not (tmp_path / "pids").exists():
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert gone([int(word) for word in (tmp_path / "pids").read_text().split()], 3.0)


def test_a_stream_whose_workers_are_killed_loses_and_doubles_nothing() -> None:
    expected, loader = make_loader(), make_loader(workers=3)
    for step in range(10):
        if step in (2, 3, 7):
            os.kill(pids(loader.stream.fetch.workers)[step % 3], signal.SIGKILL)
        batch, whole = loader.next(SHAPE, SHAPE), expected.next(SHAPE)
        assert batch.sample_ids == whole.sample_ids and batch.state == whole.state
        assert torch.equal(batch.micro_batches[0].text, whole.micro_batches[0].text)
        assert len(loader.stream.fetch.asked) <= 2 * loader.stream.fetch.room
    loader.close()


def test_the_trainer_itself_decodes_nothing() -> None:
    here: list[int] = []

    def noted(source: str, place: int) -> Sample:
        here.append(os.getpid())
        return read(source, place)

    loader = make_loader(workers=1, read=noted)
    loader.next(SHAPE)
    loader.close()
    assert not here  # the children have lists of their own


def test_a_coded_sample_survives_as_bytes() -> None:
    random = torch.Generator().manual_seed(0)
    picture = Segment(Modality.VIDEO, torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8, generator=random), Role.UNDERSTAND)
    sound, words = Segment(Modality.AUDIO, torch.randn(77, generator=random)), Segment(Modality.TEXT, "Blüte, 花")
    codes = (VisionCodes(torch.randn(2, 8, 1, 2, generator=random), torch.randn(5, 6, 1, 2).half()), torch.randint(0, 9, (4, 3)),
             torch.zeros(0, dtype=torch.int64))
    coded = CodedSample(Sample("s/x/1", (picture, sound, words), {"a": 1, "b": None, "c": "ü", "d": 0.1, "e": True}), codes)
    again = from_bytes(to_bytes(coded))
    assert (again.sample.id, again.sample.attributes) == (coded.sample.id, coded.sample.attributes)
    assert [(s.modality, s.role) for s in again.sample.segments] == [(s.modality, s.role) for s in coded.sample.segments]
    assert again.sample.segments[2].media == "Blüte, 花" and again.num_bytes == coded.num_bytes
    pairs = [(picture.media, again.sample.segments[0].media), (sound.media, again.sample.segments[1].media), (codes[1], again.codes[1]),
             (codes[2], again.codes[2]), (codes[0].latent, again.codes[0].latent), (codes[0].features, again.codes[0].features)]
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
