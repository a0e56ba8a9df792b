"""What a launcher makes of the ends of its ranks: the cause, its words, the exit code. Ranks run a light command here."""

import json
import signal
from pathlib import Path

import pytest

from ernie5.launch.ranks import Exit, Node, run_ranks
from ernie5.launch.supervise import report, supervise
from ernie5.run.failure import ERROR_FILE, Failure, read_note

KILLED, OTHER = -signal.SIGKILL, "RuntimeError: Connection closed by peer"
TWO = Node(2)
TRACE = f"Traceback (most recent call last):\n{OTHER}"


def note(folder: Path, rank: int, code: int, message: str, at: int, text: str = "") -> None:
    extra = {"py_callstack": text or message, "timestamp": "0"}
    content = {"message": {"message": message, "extraInfo": extra}, "code": code, "time_ns": at}
    (folder / f"rank-{rank}.json").write_text(json.dumps(content))


@pytest.fixture
def ended(tmp_path, capsys):
    """`ended(codes, notes)`: exit code and words of a job of two ranks; codes by rank with the time when they were last seen alive."""
    def end(codes: dict[int, tuple[int, int]], notes: dict[int, tuple[int, str, int]], stopping: bool = False, node: Node = TWO):
        (tmp_path / "notes").mkdir()
        for rank, (code, message, at) in notes.items():
            note(tmp_path / "notes", rank, code, message, at, TRACE if message == OTHER else "")
        code = report(Exit(codes, tmp_path / "notes"), node, tmp_path, stopping)
        assert (tmp_path / "notes").exists() == (node.nodes > 1)
        return code, capsys.readouterr().err
    return end


def test_complete_and_stopped_need_no_words(ended) -> None:
    assert ended({0: (0, 5), 1: (0, 5)}, {}) == (0, "")
    assert ended({0: (75, 5), 1: (75, 5)}, {}, True) == (75, "")


def test_the_killed_rank_is_the_cause_and_not_the_error_that_it_led_to(ended, tmp_path) -> None:
    code, said = ended({1: (KILLED, 100)}, {0: (1, OTHER, 140)})
    assert code == 137 and said.startswith("ernie5: rank 1 of 2 failed first: it was killed by SIGKILL") and "Traceback" not in said
    assert (tmp_path / "rank-0.log").read_text() == TRACE + "\n"


def test_the_earlier_note_is_the_cause_even_where_its_process_ended_later(ended) -> None:
    code, said = ended({0: (1, 100)}, {0: (1, OTHER, 150), 1: (2, "train.rows = 7 is no good", 90)})
    assert (code, said) == (2, "ernie5: train.rows = 7 is no good\n")


def test_the_cause_may_be_on_another_node(ended) -> None:
    code, said = ended({0: (1, 100)}, {0: (1, OTHER, 150), 3: (2, "no such shard", 90)}, node=Node(2, 2, 0))
    assert (code, said) == (2, "ernie5: node 0 ends because rank 3 failed: no such shard\n")


def test_stopped_too_early(ended) -> None:
    code, said = ended({0: (-signal.SIGTERM, 5), 1: (-signal.SIGTERM, 5)}, {}, True)
    assert code == 1 and "before this run could save" in said


def test_ranks_without_a_word(ended) -> None:
    code, said = ended({0: (0, 5), 1: (7, 5)}, {})
    assert code == 7 and "rank 1 of 2 failed first: it ended with exit code 7 and left no note" in said


# torch's launcher leaves the log files of ranks that end by themselves to the garbage collector
LEAVES_FILES = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@LEAVES_FILES
def test_real_ranks_are_told_who_they_are(tmp_path, capfd) -> None:
    pids: list[int] = []
    end = run_ranks(["recipes", "list"], Node(2), tmp_path, 0, pids.extend)
    assert {rank: code for rank, (code, _) in end.codes.items()} == {0: 0, 1: 0} and len(set(pids)) == 2
    assert (tmp_path / "rank-1.out").read_text() == capfd.readouterr().out != ""


@LEAVES_FILES
def test_a_mistake_of_both_ranks_is_said_once_and_not_tried_again(tmp_path, capfd) -> None:
    assert supervise(["recipes", "copy", "nope"], Node(2), tmp_path, restarts=3) == 2
    said = capfd.readouterr().err
    assert said.startswith("ernie5: there is no shipped recipe 'nope'") and said.count("\n") == 1


def test_notes_hold_no_secret_and_the_first_one_stays(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "note.json"))
    monkeypatch.setenv("HF_TOKEN", "abcdef-hidden-12345")
    try:
        raise RuntimeError("no access with abcdef-hidden-12345")
    except RuntimeError as error:
        Failure.of(error).note()
    Failure.of(ValueError("later")).note()
    assert "hidden" not in (tmp_path / "note.json").read_text()
    found = read_note(tmp_path / "note.json")
    assert found is not None and found.code == 1 and found.message == "RuntimeError: no access with ***" and "Traceback" in found.text
    (tmp_path / "note.json").write_text('{"message": ')
    assert read_note(tmp_path / "note.json") is None and read_note(tmp_path / "none.json") is None


def test_torch_reads_the_notes(tmp_path, monkeypatch) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "note.json"))
    Failure.of(ValueError("train.rows = 7 is no good")).note()
    failure = ProcessFailure(0, 1, 2, str(tmp_path / "note.json"))
    assert failure.message["extraInfo"]["py_callstack"] == "train.rows = 7 is no good" and failure.timestamp > 10**9
