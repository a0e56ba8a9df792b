"""Curations from start to end: what is found on a planted corpus, kills at every point, mistakes of people."""

import io
import json
import os
import signal
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from make_media import image_bytes

from ernie5.cli.main import main
from ernie5.config import load_config
from ernie5.data_pipelines.curate.planted import PAIRS, measure, write_planted
from ernie5.data_pipelines.curate.planted_texts import edited, real_text
from ernie5.data_pipelines.curate.recipe import Curation
from ernie5.data_pipelines.curate.run import curate, some_processes
from ernie5.data_pipelines.sources import ShardSource
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality

PLANTED, CONTROLS = 5, 20
SMALL = {"samples_per_part": 24, "samples_per_shard": 20}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rejects(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    write_planted(folder, PLANTED, CONTROLS, edits=1)
    return folder


def test_planted_copies_are_found_and_controls_stay(planted, tmp_path):
    steps = [{"exact": {"by": "sample"}}, {"exact": {"by": "media", "media": "pixels"}}, {"near_text": {}}, {"near_image": {}},
             {"contaminated_text": {"against": str(planted / "eval")}}, {"contaminated_image": {"against": str(planted / "eval")}}]
    report = curate(load_config(Curation, {"steps": steps}), planted / "corpus", tmp_path / "out")
    found = measure(tmp_path / "out" / "rejects.jsonl", PLANTED, CONTROLS)
    for kind in PAIRS:
        if kind.startswith("exact"):
            assert found[kind].recall == 1
    near = [found[kind] for kind in PAIRS if kind.startswith("near")]
    assert sum(f.found for f in near) >= 0.9 * sum(f.planted for f in near)
    assert all(found[kind].recall >= 0.9 for kind in ("contaminated-text", "contaminated-image"))
    assert found["damaged"].recall == 1
    assert all(f.lost == 0 for f in found.values())
    assert report.rejected["read"] == {"damaged": PLANTED}
    assert report.kept + sum(sum(reasons.values()) for reasons in report.rejected.values()) == report.samples == 165
    lines = rejects(tmp_path / "out")
    assert len(lines) == report.samples - report.kept
    assert {"step": "2 exact", "reason": "exact duplicate"}.items() <= next(x for x in lines if x["key"].startswith("exact_pixels")).items()
    kept, every = ShardSource("k", tmp_path / "out"), ShardSource("corpus", planted / "corpus")
    originals = {record.id: record for record in (every.read(i) for i in range(len(every)))}
    for i in range(len(kept)):
        record = kept.read(i)
        assert record.members == originals[record.attributes["origin"]].members
    assert len(kept) == report.kept and {x.get("of") for x in lines if "of" not in x or "eval" not in x["of"]} - {None} <= originals.keys()


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """70 texts in 4 shards with the same keys: copies, short ones, and one that is no UTF-8."""
    folder = tmp_path_factory.mktemp("texts")
    lines = []
    for i in range(34):
        random = stream(5, "run", i)
        text = real_text(random)
        lines += [text, edited(text, random, 1) if i % 3 else text]
    lines += ["too short", b"\xff\xfe\x00bytes"]
    order = stream(5, "order").permutation(len(lines))
    for shard in range(4):
        with ShardWriter(folder, f"s{shard}") as writer:
            for i, line in enumerate(order[shard::4]):
                data = lines[line] if isinstance(lines[line], bytes) else lines[line].encode()
                writer.write(f"{i:03d}", (Member(Modality.TEXT, "txt", data),), {"i": i})
    return folder


def recipe(**more) -> Curation:
    return load_config(Curation, {"steps": [{"length": {"min_words": 5}}, {"exact": {}}, {"near_text": {}}], **SMALL, **more})


@pytest.fixture(scope="module")
def whole(texts, tmp_path_factory) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    report = curate(recipe(), texts, out)
    assert report.rejected == {"read": {"damaged": 1}, "1 length": {"too few words": 1}, "2 exact": {"exact duplicate": 12},
                               "3 near_text": {"near duplicate": 22}} and report.kept == 34
    assert json.loads((out / "report.json").read_text())["kept"] == 34
    assert sorted(p.name for p in out.glob("*.tar")) == ["curated-000000.tar", "curated-000001.tar"]
    assert not out.with_name("out.partial").exists()
    assert load_config(Curation, out / "recipe.yaml") == recipe()
    return contents(out)


def test_a_run_killed_at_any_point_goes_on(texts, whole, tmp_path):
    """The process dies just before each of its renames in turn, or just after the last (everything durable is a rename)."""
    replace = os.replace
    for deadly in range(100):
        out = tmp_path / str(deadly)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside torch's threads, which the child does not use
            child = os.fork()
        if not child:
            _curate_and_die(texts, out, replace, deadly)
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            break
        if not out.exists():
            curate(recipe(), texts, out)
        assert contents(out) == whole
    assert contents(out) == whole and deadly > 15


def _curate_and_die(texts: Path, out: Path, replace, deadly: int) -> None:
    done = 0

    def dying_replace(a, b):
        nonlocal done
        if done == deadly:
            if Path(b) == out:
                replace(a, b)
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        replace(a, b)

    try:
        os.replace = dying_replace
        curate(recipe(), texts, out)
        os._exit(0)
    finally:
        os._exit(1)


def test_processes_change_nothing(texts, whole, tmp_path):
    curate(recipe(), texts, tmp_path / "out", some_processes(2))
    assert contents(tmp_path / "out") == whole
    for size in (7, 1000):
        curate(recipe(samples_per_part=size), texts, tmp_path / f"{size}")
        now = contents(tmp_path / f"{size}")
        assert {k: v for k, v in now.items() if k != "recipe.yaml"} == {k: v for k, v in whole.items() if k != "recipe.yaml"}
    with pytest.raises(ValueError, match="processes = 0"):
        some_processes(0)


def test_steps_run_one_after_the_other(tmp_path):
    """A sample that an earlier step rejects stands for nobody; one that a later step rejects still does."""
    with ShardWriter(tmp_path / "in", "s") as writer:
        for i, text in enumerate(("a b", "A B", "a b c")):
            writer.write(f"{i}", (Member(Modality.TEXT, "txt", text.encode()),), {})
    long, same = {"length": {"min_characters": 4}}, {"exact": {}}
    cases = (([same, long], {"0": "2 length", "1": "1 exact"}), ([long, same], {"0": "1 length", "1": "1 length"}))
    for n, (steps, gone) in enumerate(cases):
        curate(load_config(Curation, {"steps": steps}), tmp_path / "in", tmp_path / f"{n}")
        assert {x["key"]: x["step"] for x in rejects(tmp_path / f"{n}")} == gone


def test_other_recipe_or_data_is_refused_while_unfinished(texts, tmp_path, monkeypatch):
    from ernie5.data_pipelines.curate import run

    def stop(job):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "decide", stop)
        curate(recipe(), texts, tmp_path / "out")
    with pytest.raises(ValueError, match=r"begun with another recipe \(samples_per_shard: 20 -> 7\); put it back"):
        curate(load_config(Curation, {**SMALL, "steps": [{"length": {"min_words": 5}}, {"exact": {}}, {"near_text": {}}],
                                      "samples_per_shard": 7}), texts, tmp_path / "out")
    with pytest.raises(ValueError, match="begun with other data"):
        curate(recipe(), texts / "s1-*.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damage_goes_to_the_rejects(tmp_path):
    with ShardWriter(tmp_path / "in", "s") as writer:
        for i in range(4):
            writer.write(f"{i}", (Member(Modality.TEXT, "txt", f"text number {i}".encode()),), {})
    tar = writer.shards[0]
    tar.write_bytes(tar.read_bytes().replace(b"text number 2", b"text numbed 2"))
    report = curate(load_config(Curation, {"steps": [{"exact": {}}]}), tmp_path / "in", tmp_path / "out")
    assert report.kept == 3 and report.rejected == {"read": {"damaged": 1}, "1 exact": {}}
    line, = rejects(tmp_path / "out")
    assert line["shard"] == "s-000000" and line["key"] == "2" and "checksum" in line["value"]


@pytest.mark.parametrize(("steps", "check", "ends"), [
    ([{"image": {"min_side": 100}}], "decode", {"0": "1 image", "1": "read"}),  # what its header rejects is not decoded
    ([{"image": {"min_side": 100}}], "read", {"0": "1 image"}),
    ([{"near_image": {}}, {"image": {"min_side": 100}}], "read", {"0": "read", "1": "read"}),
])
def test_half_pictures(steps, check, ends, tmp_path):
    with ShardWriter(tmp_path / "in", "s") as writer:
        for i, side in enumerate((90, 300)):
            data = image_bytes(np.random.default_rng(i).integers(0, 256, (side, side, 3), np.uint8), "JPEG")
            writer.write(f"{i}", (Member(Modality.IMAGE, "jpg", data[:len(data) // 2]),), {})
    curate(load_config(Curation, {"steps": steps, "check": check}), tmp_path / "in", tmp_path / "out")
    assert {x["key"]: x["step"] for x in rejects(tmp_path / "out")} == ends


def test_other_formats_and_cut_shards(tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in ("one", "two", "ONE")))
    report = curate(load_config(Curation, {"steps": [{"exact": {}}], "fields": ["body"]}), tmp_path / "in.jsonl", tmp_path / "a")
    assert report.kept == 2 and [x["step"] for x in rejects(tmp_path / "a")] == ["1 exact"]
    with tarfile.open(tmp_path / "foreign.tar", "w") as tar:
        for name, data in (("a.txt", b"first"), ("b.txt", b"second"), ("b.xyz", b"?"), ("c.txt", b"third" * 99)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        end = tar.offset
    (tmp_path / "foreign.tar").write_bytes((tmp_path / "foreign.tar").read_bytes()[:end - 400])
    report = curate(load_config(Curation, {"steps": [{"exact": {}}]}), tmp_path / "foreign.tar", tmp_path / "b")
    assert report.kept == report.samples == 2 and len(report.warnings) == 1
    assert report.rejected["read"] == {"damaged": 1} and rejects(tmp_path / "b")[0]["key"] == "c"


MISTAKES = [
    ("steps: [{exact: {}}]\nstep: 3", "unknown key step; did you mean steps"),
    ("steps: [{near_txt: {}}]", "unknown key steps[0].near_txt; did you mean near_text"),
    ("steps: [{near_text: {treshold: 1}}]", "steps[0].near_text.treshold; did you mean threshold"),
    ("steps: [{near_text: {threshold: 7}}]", "threshold = 7.0 must be 0.3 to 1"),
    ("steps: [{near_image: {distance: 16}}]", "must be 0 to 15"),
    ("steps: [{exact: {}, near_text: {}}]", "a step has exact and near_text; give each a step of its own"),
    ("steps:\n  - exact:", "is empty; without settings, a step is written exact: {}"),
    ("steps: []", "steps is empty"),
    ("steps: [{contaminated_text: {}}]", "against must be given"),
    ("steps: [{contaminated_text: {against: nowhere}}]", "step 1 contaminated_text: data.sources"),
    ("steps: [{length: {max_tokens: 3, tokenizer: nowhere}}]", "step 1 length: "),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes_are_explained(text, message, texts, tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(text)
    assert main(["data", "curate", str(tmp_path / "r.yaml"), str(texts), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_command(texts, whole, tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("steps: [{length: {min_words: 5}}, {exact: {}}, {near_text: {}}]")
    words = ["data", "curate", str(tmp_path / "r.yaml"), str(texts), str(tmp_path / "out"), "samples_per_part=24", "samples_per_shard=20"]
    assert main(words) == 0
    assert "kept 34 of 70 samples (48.6%)" in capsys.readouterr().out
    assert contents(tmp_path / "out") == whole
    assert main(words) == 2
    assert "out exists; give a new folder" in capsys.readouterr().err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.tar").write_bytes(np.random.default_rng(0).bytes(5000))
    words[3], words[4] = str(tmp_path / "bad"), str(tmp_path / "new")
    assert main(words) == 2
    assert "a.tar is not a plain tar" in capsys.readouterr().err
