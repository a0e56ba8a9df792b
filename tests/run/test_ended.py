"""ended.json: the step after which the data of a run gave no more."""

import pytest

from ernie5.run.ended import ended_step, forget_end, note_end
from ernie5.run.folder import RunFolder


def test_the_end_is_noted_and_forgotten(tmp_path) -> None:
    folder = RunFolder(tmp_path)
    forget_end(folder)
    assert ended_step(folder) is None
    for step in (18, 20):
        note_end(folder, step)
        assert ended_step(folder) == step
    forget_end(folder)
    assert ended_step(folder) is None and not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"[18]", b"{}", b'{"step": "18"}', b"null", b"\xff"])
def test_a_damaged_file_says_nothing(tmp_path, content) -> None:
    folder = RunFolder(tmp_path)
    folder.ended.write_bytes(content)
    assert ended_step(folder) is None
