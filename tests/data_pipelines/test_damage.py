"""300 of the random corruptions of docs/benchmarks/damage.py: each is noticed or harmless, cheap, and none gives a wrong sample."""

import json
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import pytest
from make_media import image_bytes, quarters

from ernie5.data_pipelines.decode_image import decode_image
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.sniff_media import png_damage

ROOT = Path(__file__).parents[2]


def test_300_random_corruptions(tmp_path):
    """In a process of its own: a crash is a failure, not the end of the tests."""
    command = [sys.executable, "docs/benchmarks/damage.py", "--n", "300", "--seed", "0", "--out", str(tmp_path / "cases.jsonl")]
    env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    cases = [json.loads(line) for line in (tmp_path / "cases.jsonl").read_text().splitlines()]
    assert [case["number"] for case in cases] == list(range(300))
    detected = {case["kind"] for case in cases if case["verdict"].startswith("detected")}
    assert len(detected) >= 20 and sum(case["verdict"].startswith("detected") for case in cases) > 180  # the damage is real


@pytest.fixture
def damage(monkeypatch, tmp_path_factory):
    """The module docs/benchmarks/damage.py."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))
    monkeypatch.syspath_prepend(str(ROOT / "docs/benchmarks"))
    import damage

    return damage


def test_the_oracle_is_not_fooled(damage, tmp_path):
    """A reader that passes damage on would be told from one that does not."""
    stored, _ = damage.originals()
    names = list(stored)
    assert damage.look(damage.templates()[0], False, None) == damage.look(damage.templates()[1], False, None) == "harmless"
    damage.write(tmp_path / "swapped", stored | {names[0]: stored[names[2]]})
    assert damage.look(tmp_path / "swapped", False, None) == f"WRONG: {names[0]} is not what was written"
    damage.write(tmp_path / "part", stored | {names[0]: (stored[names[0]][0][:1], stored[names[0]][1])})
    assert damage.look(tmp_path / "part", False, None).startswith("WRONG")
    damage.write(tmp_path / "lost", {name: sample for name, sample in stored.items() if name[-3:] < "014"})
    assert damage.look(tmp_path / "lost", False, None) == "WRONG: 2 samples lost in silence"


def test_cases_are_functions_of_seed_and_number(damage):
    one, two = (damage.run_case(5, 3, "tar_bits") for _ in range(2))
    assert {k: one[k] for k in ("what", "verdict")} == {k: two[k] for k in ("what", "verdict")}


def test_png_chunks():
    whole = image_bytes(quarters(), "PNG")
    assert png_damage(whole) == png_damage(whole + b"behind it") == ""
    limits = MediaLimits()
    for at in range(8, len(whole) - 12):  # the chunk at the end holds nothing
        changed = bytearray(whole)
        changed[at] ^= 4
        assert png_damage(bytes(changed))
        with pytest.raises(BadMedia):
            decode_image(bytes(changed), limits)
    assert "ends" in png_damage(whole[:-12]) and "ends inside its chunk" in png_damage(whole[:60])
    empty = struct.pack(">I4sI", 0, b"teXt", zlib.crc32(b"teXt"))
    assert "more than 65536 chunks" in png_damage(whole[:33] + empty * 70_000 + whole[33:])
