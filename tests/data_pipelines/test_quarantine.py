"""The log of bad samples and the tolerance."""

import json
import pickle

import pytest

from ernie5.data_pipelines.quarantine import BadSample, Quarantine


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_per_sample_also_after_a_restart(tmp_path):
    path = tmp_path / "logs" / "quarantine.jsonl"
    for _ in range(2):
        quarantine = Quarantine(path)
        for _ in range(3):
            quarantine.reject("s/shard-000000/7", "cut\nshort")
            quarantine.warn("s/shard-000000", "a cut tail")
        assert quarantine.num_rejected == 3
    assert lines(path) == [{"kind": "rejected", "sample": "s/shard-000000/7", "reason": "cut\nshort"},
                           {"kind": "warning", "sample": "s/shard-000000", "reason": "a cut tail"}]


def test_a_line_cut_by_a_kill_does_not_matter(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"kind": "rejected", "sample": "a", "reason": "x"}\n{"kind": "rej')
    Quarantine(path).reject("a", "x")
    assert len(path.read_text().splitlines()) == 2


def test_tolerance(tmp_path):
    quarantine = Quarantine(tmp_path / "q.jsonl", tolerance=0.02, min_samples=50)
    for i in range(100):
        quarantine.accept() if i % 50 < 49 else quarantine.reject(str(i), "bad")
    with pytest.raises(ValueError, match=r"3 of 101 samples.*data\.tolerance = 0\.02.*q\.jsonl.*raise data\.tolerance"):
        quarantine.reject("100", "bad")
    assert len(lines(tmp_path / "q.jsonl")) == 3


def test_few_samples_are_no_sample_of_anything_yet(tmp_path):
    quarantine = Quarantine(tmp_path / "q.jsonl", tolerance=0.0, min_samples=5)
    for i in range(4):
        quarantine.reject(str(i), "bad")
    with pytest.raises(ValueError, match="5 of 5 samples"):
        quarantine.reject("4", "bad")


def test_settings_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"data\.tolerance = 1\.5 must be"):
        Quarantine(tmp_path / "q", tolerance=1.5)
    with pytest.raises(ValueError, match="min_samples"):
        Quarantine(tmp_path / "q", min_samples=0)


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(BadSample("a/b/c", "why")))
    assert (error.sample_id, error.reason, str(error)) == ("a/b/c", "why", "a/b/c: why")
