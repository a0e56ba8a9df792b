"""A user's folder to shards: every file ends in a sample or in the list of rejected ones, unchanged."""

import json
import os

import pytest
from make_media import clip_bytes, image_bytes, quarters, sound_bytes

from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.pack_folder import pack_folder
from ernie5.data_pipelines.sources import ShardSource
from ernie5.sequence import Modality

PICTURE, SOUND, CLIP = image_bytes(quarters()), sound_bytes("FLAC"), clip_bytes([i / 8 for i in range(9)])


def fill(folder, **files):
    """Write files; `__` in a name stands for a dot, `___` for a slash."""
    for name, content in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def samples(out):
    """File name -> record, all decodable."""
    source = ShardSource("mine", out)
    records = [source.read(i) for i in range(len(source))]
    for record in records:
        decode_record(record, MediaLimits())
    return {r.attributes["file"]: r for r in records}


def contents(record):
    return [(m.modality.value, m.data) for m in record.members]


def document(*segments):
    return {"segments": list(segments)}


def test_a_mixed_folder(tmp_path):
    folder = fill(tmp_path / "in", a__jpg=PICTURE, a__txt="a picture\n", b__flac=SOUND, b__txt="a sound", c__mp4=CLIP, d__txt="only text",
                  sub___e__PNG=PICTURE, sub___a__txt="another a", f__flac=SOUND, f__jpg=PICTURE, f__txt="three")
    report = pack_folder(folder, tmp_path / "out")
    assert report.accepted == {"text + image": 1, "text + audio": 1, "video": 1, "text": 2, "image": 1, "text + image + audio": 1}
    assert report.rejected == () and report.hidden == () and not (tmp_path / "out" / "rejected.jsonl").exists()
    found = samples(tmp_path / "out")
    assert list(found) == ["a", "b", "c", "d", "f", "sub/a", "sub/e"]
    assert contents(found["a"]) == [("text", b"a picture\n"), ("image", PICTURE)]
    assert contents(found["f"]) == [("text", b"three"), ("image", PICTURE), ("audio", SOUND)]
    assert found["sub/e"].id == "mine/folder-000000/00000006"
    assert "packed 7 samples into 1 shards" in str(report)


def test_documents(tmp_path):
    story = document({"text": "first"}, {"image": "img/1.png"}, {"text": "then"}, {"audio": "../x.flac"}, {"image": "img/1.png"})
    folder = fill(tmp_path / "in", sub___story__json=story | {"attributes": {"lang": "en"}}, sub___img___1__png=PICTURE, x__flac=SOUND,
                  x__txt="stays alone")
    report = pack_folder(folder, tmp_path / "out")
    assert report.accepted == {"text + image + audio": 1, "text": 1} and report.rejected == ()
    found = samples(tmp_path / "out")
    assert contents(found["sub/story"]) == [("text", b"first"), ("image", PICTURE), ("text", b"then"), ("audio", SOUND), ("image", PICTURE)]
    assert found["sub/story"].attributes == {"lang": "en", "file": "sub/story"}
    assert contents(found["x"]) == [("text", b"stays alone")]


def test_a_json_beside_files_gives_attributes(tmp_path):
    folder = fill(tmp_path / "in", a__jpg=PICTURE, a__json={"license": "CC0", "width": 64, "tags": ["x"], "file": "lie"},
                  b__json={"alone": 1}, c__jpg=PICTURE, c__json="{")
    report = pack_folder(folder, tmp_path / "out")
    assert samples(tmp_path / "out")["a"].attributes == {"license": "CC0", "width": 64, "file": "a"}
    reasons = dict(report.rejected)
    assert sorted(reasons) == ["b.json", "c.jpg", "c.json"]
    assert "no file beside it" in reasons["b.json"] and "not readable as JSON" in reasons["c.json"] and "belongs to it" in reasons["c.jpg"]


def test_bad_files_are_listed_and_take_their_sample_with_them(tmp_path):
    story = document({"text": "x"}, {"image": "broken.png"}, {"audio": "ok.flac"})
    folder = fill(tmp_path / "in", good__txt="fine", a__jpg=PICTURE[:-40], a__txt="caption", b__wav=PICTURE, c__mp4=b"", d__xyz=b"?",
                  e__txt=b"\xff\xfe", f__jpg=PICTURE, f__txt="", story__json=story, broken__png=b"no", ok__flac=SOUND, noending=b"")
    report = pack_folder(folder, tmp_path / "out")
    assert report.accepted == {"text": 1}
    reasons = dict(report.rejected)
    assert set(reasons) == {"a.jpg", "a.txt", "b.wav", "c.mp4", "d.xyz", "e.txt", "f.jpg", "f.txt", "story.json", "broken.png", "ok.flac",
                            "noending"}
    assert "a.jpg, which belongs to it, was rejected" in reasons["a.txt"] and "sound but a PNG file" in reasons["b.wav"]
    assert "'.xyz' are not read" in reasons["d.xyz"] and "empty" in reasons["c.mp4"] and "broken.png" in reasons["story.json"]
    logged = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [(entry["file"], entry["reason"]) for entry in logged] == list(report.rejected)
    assert "rejected 12 files" in str(report) and "  d.xyz: " in str(report)


@pytest.mark.parametrize(("content", "reason"), [
    (document({"image": "../secret.png"}), "not inside the folder"), (document({"image": "/etc/passwd"}), "not inside the folder"),
    (document({"image": "sub/../../secret.png"}), "not inside the folder"), (document({"image": "a\0.png"}), "not inside the folder"),
    (document({"image": "link.png"}), "leads out"), (document({"image": "linked/secret.png"}), "leads out"),
    (document({"image": "missing.png"}), "not a file"), (document({"image": "n" * 300 + ".png"}), "not a file"),
    (document({"image": "sub"}), "not a file"),
    (document({"audio": "ok.png"}), "another kind"), (document({"image": "x.json"}), "another kind"),
    (document({"smell": "ok.png"}), "exactly one"),
    (document({"text": "a", "image": "ok.png"}), "exactly one"), (document({"text": 5}), "must be a string"),
    (document("text"), "exactly one"),
    (document(), "at least one"), ({"segments": {"text": "a"}}, "at least one"), (document({"text": ""}), "text is empty"),
    (document({"text": "\ud800"}), "surrogates"), ('{"segments": [{"text": "a"}], "attributes": {"a": NaN}}', "not readable as JSON"),
    (document({"text": "a"}) | {"attributes": {"a": [1]}}, "plain values"), ("[1]", "no object"), ("[" * 100_000, "not readable as JSON"),
    ('"' + "x" * 2**20 + '"', "more than 1048576 bytes"), ('{"segments": [' + "9" * 5000 + "]}", "not readable as JSON"),
])
def test_bad_documents(tmp_path, content, reason):
    fill(tmp_path, secret__png=PICTURE)
    folder = fill(tmp_path / "in", x__json=content, ok__png=PICTURE, sub___y__txt="y")
    os.symlink(tmp_path / "secret.png", folder / "link.png")
    os.symlink(tmp_path, folder / "linked")
    report = pack_folder(folder, tmp_path / "out")
    assert reason in dict(report.rejected)["x.json"]
    assert report.accepted == {"image": 1, "text": 1}
    assert "leads out of the folder" in dict(report.rejected)["link.png"] and "not followed" in dict(report.rejected)["linked/"]


def test_what_is_no_plain_file(tmp_path):
    folder = fill(tmp_path / "in", ok__txt="fine")
    os.mkfifo(folder / "pipe.txt")
    os.symlink(folder / "nowhere", folder / "dangling.txt")
    os.symlink(folder / "ok.txt", folder / "same.txt")
    (folder / "new\nline.txt").write_text("x")
    (folder / os.fsdecode(b"\xff.txt")).write_text("x")
    report = pack_folder(folder, tmp_path / "out")
    reasons = dict(report.rejected)
    assert reasons["pipe.txt"] == "not a plain file" and reasons["dangling.txt"] == "a link to nothing"
    assert "unprintable" in reasons["new\nline.txt"] and "unprintable" in reasons["?.txt"]
    assert sorted(samples(tmp_path / "out")) == ["ok", "same"]


def test_hidden_files_are_said(tmp_path):
    folder = fill(tmp_path / "in", ok__txt="fine", __DS_Store=b"x", __git___config="x")
    report = pack_folder(folder, tmp_path / "out")
    assert report.hidden == (".DS_Store", ".git/") and "ignored 2 hidden files and folders: .DS_Store, .git/" in str(report)
    assert report.rejected == ()


def test_large_files_are_not_read_whole(tmp_path):
    folder = fill(tmp_path / "in", ok__txt="fine")
    with open(folder / "huge.png", "wb") as file:
        file.truncate(2**40)  # sparse: takes no room
    assert dict(pack_folder(folder, tmp_path / "out", MediaLimits(max_bytes=1000)).rejected) == {"huge.png": "has more than 1000 bytes"}


def test_the_same_folder_gives_the_same_shards(tmp_path):
    folder = fill(tmp_path / "in", a__jpg=PICTURE, a__txt="a", b__txt="b", c__txt="c")
    first, second = (pack_folder(folder, tmp_path / name, samples_per_shard=2).shards for name in ("1", "2"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second] and len(first) == 2


def test_clear_errors(tmp_path):
    folder = fill(tmp_path / "in", ok__txt="fine")
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        pack_folder(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no files; put"):
        pack_folder(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ValueError, match="only hidden files"):
        pack_folder(fill(tmp_path / "hidden", __x=b""), tmp_path / "out")
    with pytest.raises(ValueError, match="is inside"):
        pack_folder(folder, folder / "out")
    with pytest.raises(ValueError, match="nothing in .* can be used.*rejected.jsonl.*x.png: not a readable"):
        pack_folder(fill(tmp_path / "bad", x__png=b"no"), tmp_path / "out")
    pack_folder(folder, tmp_path / "out")
    with pytest.raises(ValueError, match="already holds shards named 'folder'"):
        pack_folder(folder, tmp_path / "out")
    pack_folder(folder, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "rejected.jsonl").exists()
    assert next(iter(samples(tmp_path / "out").values())).members[0].modality is Modality.TEXT
