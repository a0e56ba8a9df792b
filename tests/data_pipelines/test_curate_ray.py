"""The same curation on a (local) Ray cluster; skipped where Ray is not installed."""

import sys

import pytest

from ernie5.config import load_config
from ernie5.data_pipelines.curate.on_ray import ray_workers
from ernie5.data_pipelines.curate.recipe import Curation
from ernie5.data_pipelines.curate.run import curate
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.sequence import Modality


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_gives_the_same_bytes(tmp_path):
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    with ShardWriter(tmp_path / "in", "s", samples_per_shard=10) as writer:
        for i in range(30):
            writer.write(f"{i}", (Member(Modality.TEXT, "txt", f"the text number {i % 20} of some".encode()),), {})
    recipe = load_config(Curation, {"steps": [{"exact": {}}, {"near_text": {}}], "samples_per_part": 8, "samples_per_shard": 9})
    curate(recipe, tmp_path / "in", tmp_path / "one")
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        report = curate(recipe, tmp_path / "in", tmp_path / "many", ray_workers(0.5))
    finally:
        ray.shutdown()
    assert report.rejected["1 exact"] == {"exact duplicate": 10}
    files = [{p.name: p.read_bytes() for p in (tmp_path / out).iterdir()} for out in ("one", "many")]
    assert files[0] == files[1] and len(files[0]) == 9


def test_ray_is_asked_for_before_anything_is_written(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ValueError, match=r"pip install 'ernie5\[ray\]'"):
        ray_workers()
