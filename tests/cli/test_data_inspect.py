"""`ernie5 data verify` and `inspect`: counts, reasons, the page, processes, and exit codes."""

import json
import os
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from ernie5.cli.main import main
from ernie5.data_pipelines.synthetic.encode_media import encode_flac, encode_jpeg, encode_mp4, encode_png, encode_wav
from ernie5.data_pipelines.write_shards import Member, ShardWriter, index_path
from ernie5.inspect.examine import script_of
from ernie5.inspect.inspect_data import inspect_data
from ernie5.inspect.numbers import as_bytes, as_pixels, as_seconds, histogram, plain
from ernie5.inspect.open_paths import name_paths, open_paths
from ernie5.inspect.survey import Survey, kind_of
from ernie5.inspect.walk import Job, look_at, walk
from ernie5.sequence import Modality

TEXT, IMAGE, AUDIO, VIDEO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO, Modality.VIDEO
PIXELS = (torch.arange(48 * 64 * 3) * 7 % 256).to(torch.uint8).reshape(1, 3, 48, 64)
WAVE = 0.5 * torch.sin(torch.arange(8000) / 6)
PICTURE, SOUND, CLIP = encode_png(PIXELS), encode_wav(WAVE, 16000), encode_mp4(PIXELS.repeat(5, 1, 1, 1), 8)


def said(text):
    return Member(TEXT, "txt", text.encode())


SAMPLES = [
    (said("four quarters of a picture"), Member(IMAGE, "png", PICTURE)), (said("ещё одна картинка"), Member(IMAGE, "png", PICTURE)),
    (said("a sine"), Member(AUDIO, "wav", SOUND)), (said("grey"), Member(VIDEO, "mp4", CLIP)), (said("only a text, <b>not bold</b>"),),
    (said("first"), Member(IMAGE, "jpg", encode_jpeg(PIXELS)), said("then"), Member(AUDIO, "flac", encode_flac(WAVE[:6400], 16000))),
]


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "mine"
    with ShardWriter(folder, "a", samples_per_shard=4) as writer:
        for number, members in enumerate(SAMPLES):
            writer.write(f"{number:03d}", members, {"number": number, "page": "<script>"})
    return folder


def break_some(folder, tmp_path):
    """Another folder with good samples and three bad ones; and bits flipped in the first one's first shard."""
    with ShardWriter(tmp_path / "bad", "b") as writer:
        for number, data in enumerate((PICTURE, PICTURE[:100], b"", PICTURE[:101], PICTURE)):
            writer.write(f"{number:03d}", (said("x"), Member(IMAGE, "png", data)), {})
    tar = folder / "a-000000.tar"
    changed = bytearray(tar.read_bytes())
    changed[515] ^= 1  # in the first text
    tar.write_bytes(changed)
    return tmp_path / "bad"


def test_whole_data(shards, capsys, tmp_path):
    assert main(["data", "verify", str(shards), "--out", str(tmp_path / "p.jsonl")]) == 0
    told = capsys.readouterr().out
    assert "6 samples are whole: 7 text, 3 image, 1 video, 2 audio" in told and "problem" not in told.replace("p.jsonl", "")
    assert (tmp_path / "p.jsonl").read_text() == ""


def test_damage_is_told_and_changes_the_exit_code(shards, capsys, tmp_path):
    bad, out = break_some(shards, tmp_path), tmp_path / "problems.jsonl"
    assert main(["data", "verify", str(shards), str(bad), "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "7 samples are whole" in told and "4 problems:" in told
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [f["sample"] for f in found] == ["mine/a-000000/000", "bad/b-000000/001", "bad/b-000000/002", "bad/b-000000/003"]
    assert all(f["kind"] == "rejected" for f in found) and "checksum" in found[0]["reason"] and "empty" in found[2]["reason"]
    assert re.search(r"^ +2  image: the PNG file is damaged", told, re.MULTILINE)  # reasons are counted by kind
    assert main(["data", "inspect", str(shards), str(bad)]) == 1


def test_a_damaged_index_hides_no_other_damage(shards, capsys, tmp_path):
    index_path(shards / "a-000000.tar").write_text("{")
    (shards / "a-000001.tar").write_bytes((shards / "a-000001.tar").read_bytes()[:2000])
    assert main(["data", "verify", str(shards), "--out", str(tmp_path / "p.jsonl")]) == 1
    found = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert found[0]["sample"] == "mine/a-000000" and "is damaged" in found[0]["reason"]
    assert {f["sample"].split("/")[1] for f in found} == {"a-000000", "a-000001"} and len(found) >= 3
    assert "1 samples are whole" in capsys.readouterr().out


def test_two_processes_say_the_same_in_the_same_order(shards, tmp_path):
    opened = open_paths(name_paths([str(shards), str(break_some(shards, tmp_path))]))
    one, two = (list(walk(opened, Job(), jobs)) for jobs in (1, 2))
    assert one == two and len(one) == 11


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_decoder_that_crashes_costs_one_sample(shards, monkeypatch):
    opened = open_paths(name_paths([str(shards)]))
    monkeypatch.setattr("ernie5.inspect.walk.look_at", die_on_three)
    monkeypatch.setattr("ernie5.inspect.walk._pool", lambda jobs: ProcessPoolExecutor(jobs, get_context("fork")))  # quick to start
    found = list(walk(opened, Job(), jobs=2))
    assert len(found) == 6 and [i for i, f in enumerate(found) if not hasattr(f, "facts")] == [3]
    assert found[3].where == "mine/(3)" and "process that decoded it died" in found[3].reason


def die_on_three(job, chunk):
    """What a worker would do if sample 3 broke a decoder."""
    if 3 in chunk[2]:
        os._exit(9)
    return look_at(job, chunk)


def test_inspect_tells_what_is_there(shards, capsys, tmp_path):
    page = tmp_path / "page.html"
    assert main(["data", "inspect", str(shards), "--html", str(page)]) == 0
    told = capsys.readouterr().out
    for line in (r"text->image +2", r"text->text +1", r"text->image\+audio +1", r"image pixels +3 +3,072 px", r"audio seconds +2 +0.4 s"):
        assert re.search(line, told), (line, told)
    assert "LATIN 6, CYRILLIC 1" in told and "number 6, page 6" in told
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html and "<b>not bold" not in html and "&lt;b&gt;not bold" in html and "all samples are whole" in html
    assert html.count('class="card sample doc"') == 6 and html.count("<audio") == 2
    assert "data:image/webp" in html and html.count("data:image/png") >= 3 and not re.search(r"(?:src|href)=\"(?!data:)", html)


def test_the_page_of_damaged_data(shards, tmp_path):
    page = tmp_path / "page.html"
    bad = break_some(shards, tmp_path)
    assert main(["data", "inspect", str(bad), str(shards), "--html", str(page), "--at-most", "9"]) == 1
    html = page.read_text(encoding="utf-8")
    assert "What is wrong" in html and "problems" in html and "of 11 samples" in html


def test_some_samples_are_spread_evenly(shards, tmp_path):
    opened = open_paths(name_paths([str(shards)]))
    assert [f.place[2] for f in walk(opened, Job(), at_most=3)] == [0, 2, 4]
    assert len(list(walk(opened, Job(), at_most=100))) == 6


def test_examples_do_not_depend_on_the_order():
    survey, other = Survey(), Survey()
    names = [f"s/{i}" for i in range(50)]
    for one, order in ((survey, names), (other, names[::-1])):
        for name in order:
            one._example("a", name, (name, None, 0))
    assert survey.shown("a") == other.shown("a") and len(survey.shown("a")) == 8
    assert len({place[0] for place in survey.shown("a")}) == 8


def test_quantiles_and_units(shards):
    survey = inspect_data(open_paths(name_paths([str(shards)])), Job())
    assert survey.quantiles("image", "aspect") == pytest.approx([4 / 3] * 5) and survey.quantiles("image", "seconds") == []
    assert survey.quantiles("audio", "seconds")[0] == pytest.approx(0.4) and survey.quantiles("video", "pixels") == [3072.0] * 5
    assert (as_bytes(999), as_bytes(1_230_000), as_seconds(75), as_seconds(7300), as_pixels(262144), plain(1234.6)) == (
        "999 B", "1.23 MB", "1:15 min", "2.03 h", "0.262 Mpx", "1,235")
    for values in ([3.0], [1, 2, 3], [0, 0, 5], list(np.geomspace(1, 1e6, 50)), [0.5, 0.75]):
        assert histogram(np.array(values, float), "words", "#123456").startswith("<svg")


def test_scripts_and_reasons():
    assert [script_of(t) for t in ("abc", "жук a", "漢字", "漢字のテスト", "한국", "12!", "")] == [
        "LATIN", "CYRILLIC", "CJK", "HIRAGANA", "HANGUL", "", ""]
    assert kind_of("segment 12 (image): 33 x 4.5 'x' (ff d8 ff)") == "image: N x N … (…)"


def test_names_of_sources_differ():
    assert list(name_paths(["a/x.tar", "b/x.tar", "b/x-*.tar", "s3://c/y/", "."])) == ["x", "x-2", "x-3", "y", "data"]


@pytest.mark.parametrize(("words", "told"), [
    ([], "give at least one PATH"), (["nowhere"], "has no"), (["x", "--jobs", "0"], "--jobs 0 must be at least 1"),
    (["x", "--recipe", "nonsense"], "no recipe 'nonsense'")])
@pytest.mark.parametrize("action", ["verify", "inspect"])
def test_mistakes_are_explained(action, words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", action, *words]) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error


@pytest.mark.parametrize("action", ["verify", "inspect"])
def test_help_of_both_fits_a_screen(action, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["data", action, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: ernie5 data {action}") and len(lines) <= 24 and max(map(len, lines)) <= 80


def test_a_run_that_is_none(shards, capsys, tmp_path):
    assert main(["data", "inspect", str(shards), "--tokenizers", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err
