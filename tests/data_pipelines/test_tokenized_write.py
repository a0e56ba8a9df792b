"""`ernie5 data tokenize`: the same files after a kill, by two processes, by ranks; nothing half done counts."""

import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from make_media import sound_bytes

from ernie5.cli.main import main
from ernie5.data_pipelines.sources import SourceConfig, open_source
from ernie5.data_pipelines.tokenized.codes import Keep
from ernie5.data_pipelines.tokenized.run import summary, tokenize
from ernie5.data_pipelines.tokenized.write import Job
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.recipe import Recipe
from ernie5.sequence import Modality
from ernie5.train.prepare import decoding_of
from ernie5.train.tokenize_data import load


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    with ShardWriter(folder, "sounds") as writer:
        for i in range(20):
            sound = sound_bytes(seconds=0.2 + 0.02 * i) if i != 7 else b"no sound"
            writer.write(f"{i}", [Member(Modality.TEXT, "txt", f"sound {i}".encode()), Member(Modality.AUDIO, "wav", sound)], {"number": i})
    return folder


def job_of(micro, shards, out: Path, per_shard: int = 4) -> Job:
    source = SourceConfig(str(shards))
    return Job("mine", source, out, partial(load, Recipe(), micro.folder / "tokenizers"), decoding_of(Recipe(), source), Keep(), per_shard)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the binary indexes that readers keep."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture(scope="module")
def whole(micro, shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    job = job_of(micro, shards, out)
    found = tokenize(job, job.open())
    assert (found.num_there, found.num_shards, found.num_samples, found.num_rejected) == (5, 5, 20, 1)
    return contents(out)


def test_names(whole) -> None:
    assert list(whole) == sorted(["tokenized.json", *(f"mine-{n:06d}.{end}" for n in range(5) for end in ("tar", "index.json"))])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("at", [1, 4, 11])
def test_killed_and_started_again(micro, shards, whole, tmp_path, at) -> None:
    job = job_of(micro, shards, tmp_path / "out")
    work = job.open()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # the others did not survive the fork
        done = 0

        def dies(number: int) -> None:
            nonlocal done
            done += 1
            if done == at:
                os.kill(os.getpid(), signal.SIGKILL)

        for number in range(5):
            (tmp_path / "out").mkdir(exist_ok=True)
            work.write(number, dies)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left = contents(tmp_path / "out")
    assert sum(name.endswith(".partial") for name in left) == 1 and sum(name.endswith("index.json") for name in left) == (at - 1) // 4
    for name, data in left.items():
        assert name.endswith(".partial") or data == whole[name]
    (tmp_path / "out" / "tokenized.json").write_bytes(whole["tokenized.json"])
    if at > 4:
        with pytest.raises(ValueError, match="of 5 shards are there; let ernie5 data tokenize finish"):
            open_source("mine", SourceConfig(str(tmp_path / "out")))
        assert len(open_source("mine", SourceConfig(str(tmp_path / "out" / "*.tar")))) == 8
    tokenize(job, work)
    assert contents(tmp_path / "out") == whole


def test_a_tar_without_index_is_written_again(micro, shards, whole, tmp_path) -> None:
    job = job_of(micro, shards, tmp_path / "out")
    tokenize(job, job.open())
    (tmp_path / "out" / "mine-000002.index.json").unlink()  # killed between the tar and its index
    (tmp_path / "out" / "mine-000002.tar").write_bytes(b"torn")
    tokenize(job, job.open())
    assert contents(tmp_path / "out") == whole


def test_ranks_in_any_order(micro, shards, whole, tmp_path) -> None:
    job = job_of(micro, shards, tmp_path / "out")
    found = tokenize(job, job.open(), rank=1, world_size=3)
    assert found.num_there == 2 and found.num_shards == 5
    tokenize(job, job.open(), rank=0, world_size=2)  # another number of ranks goes on
    assert summary(job.open()).num_there == 4
    assert tokenize(job, job.open(), rank=1, world_size=2).num_there == 5
    assert contents(tmp_path / "out") == whole


def test_two_processes(micro, shards, whole, tmp_path) -> None:
    job = job_of(micro, shards, tmp_path / "out")
    assert tokenize(job, job.open(), processes=2).num_there == 5
    assert contents(tmp_path / "out") == whole


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_dies_is_told(micro, shards, tmp_path, monkeypatch) -> None:
    forks = multiprocessing.get_context("fork")  # quicker, and these children do nothing but die
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: forks)
    job = job_of(micro, shards, tmp_path / "out")
    broken = Job(job.name, job.config, job.out, partial(_dies, os.getpid(), job.load), job.decoding, job.keep, 4)
    with pytest.raises(ValueError, match=r"a process that tokenized died \(SIGKILL; .*the same command goes on"):
        tokenize(broken, broken.open(), processes=2)
    assert not list((tmp_path / "out").glob("*.tar"))


def _dies(parent: int, load):
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return load()


def test_mistakes_have_a_way_out(micro, shards, whole, tmp_path, capsys) -> None:
    run, out = str(micro.folder), str(tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.tar").write_bytes(b"")
    assert main(["data", "tokenize", str(shards), out, "--run", run, "--samples-per-shard", "20"]) == 0
    for words, message in (
        ([str(shards), out, "--run", run, "--samples-per-shard", "10"], "was begun with another samples_per_shard (20, now 10)"),
        ([str(shards), out, "--run", run, "--samples-per-shard", "20", "data.limits.audio_seconds=0.5"],
         "was begun with another made_by.audio.settings.data.limits.audio_seconds (1.04, now 0.5)"),
        ([str(shards), str(other), "--run", run], "holds a.tar and no tokenized.json; give a new folder"),
        ([str(shards), out], "give --run RUN_DIR"),
        ([str(shards), out, "--tokenizers", str(tmp_path)], "must be a run, or a folder that holds text, vision, audio"),
        ([str(shards), out, "--run", str(tmp_path)], "is no run folder"),
        ([str(tmp_path / "none"), out, "--run", run], "has no shards at"),
        ([str(shards), out, "--run", run, "--processes", "0", "--samples-per-shard", "20"], "--processes 0 must be at least 1"),
        ([str(shards), out, "--run", run, "--samples-per-shard", "0"], "--samples-per-shard 0 must be at least 1"),
    ):
        capsys.readouterr()
        assert main(["data", "tokenize", *words]) == 2
        assert message in capsys.readouterr().err


def test_screen_summary_verify_and_inspect(micro, shards, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["data", "tokenize", str(shards), str(out), "--run", str(micro.folder), "data.limits.audio_seconds=0.5"]) == 0
    said = capsys.readouterr()
    assert "1 of 1 shards are there: 20 samples, 1 rejected" in said.out and "kB a sample" in said.out
    assert "20 samples" in said.err and f"then       data.sources: {{{shards.name}: {{path: {out}}}}}" in said.err
    assert main(["data", "verify", str(out), "--out", str(tmp_path / "problems.jsonl")]) == 1
    assert "sounds-000000/7" in (tmp_path / "problems.jsonl").read_text()
    assert "19 samples are whole: 19 text, 19 audio" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["data", "inspect", str(out), "--tokenizers", str(micro.folder), "--html", str(page)]) == 1
    told = capsys.readouterr().out
    assert "out: codes of audio by" in told and "audio generated tokens" in told
    assert page.read_text().count("<audio") == 8 and "audio codes 4 x 3" in page.read_text()
