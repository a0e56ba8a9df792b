"""Other people's tars: what a recipe says about their members, and what a sample without them is told."""

import json

import pytest
from test_sources import tar_of

from ernie5.config import load_config
from ernie5.data_pipelines.fields import parse_fields, text_keys
from ernie5.data_pipelines.indexed_files import IndexedFiles
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.sources import DamagedSample, SourceConfig, open_source
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.recipe import Recipe
from ernie5.sequence import Modality

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE


@pytest.fixture
def web(tmp_path):
    """A small LAION: captions in the JSON, a picture of one ending or another, things nobody asked for."""
    files = []
    for i, ending in enumerate(("jpg", "png", "jpg")):
        info = {"caption": f"caption {i}", "meta": {"title": f"title {i}", "a.b": "dots"}, "width": i, "tags": ["x"]}
        files += [(f"{i}.{ending}", b"P%d" % i), (f"{i}.json", json.dumps(info).encode()), (f"{i}.cap", b"cap %d" % i), (f"{i}.npz", b"z")]
    files += [("3.jpg", b"P3"), ("3.json", b'{"caption": null, "meta": 5}'), ("4.txt", b"alone"), ("5.jpg", b"P5"), ("5.json", b"{"),
              ("6.jpg", b"P6"), ("6.json", b'{"caption": "\\ud800", "meta": {}}')]
    return tar_of(tmp_path / "web.tar", files)


def read(path, fields, i):
    return open_source("web", SourceConfig(str(path), fields=tuple(fields))).read(i)


def test_fields_choose_and_order_the_segments(web):
    record = read(web, ["json:caption", "jpg|png", "text=cap", "json:meta.title"], 1)
    assert record.members == (Member(TEXT, "txt", b"caption 1"), Member(IMAGE, "png", b"P1"), Member(TEXT, "txt", b"cap 1"),
                              Member(TEXT, "txt", b"title 1"))
    assert record.id == "web/web/1" and record.attributes == {"width": 1}
    assert [m.data for m in read(web, ["jpg|png", "json:caption"], 2).members] == [b"P2", b"caption 2"]
    assert read(web, ["image=cap"], 0).members == (Member(IMAGE, "cap", b"cap 0"),)
    assert read(web, ["JPG"], 0).members == (Member(IMAGE, "jpg", b"P0"),)


@pytest.mark.parametrize(("fields", "i", "reason"), [
    (["jpg"], 1, "it has no member jpg; it has json"), (["txt"], 0, "it has no member txt"),
    (["json:caption"], 3, "its caption is missing; there is caption, meta"), (["json:meta"], 0, "its meta is a dict, not a text"),
    (["json:meta.title"], 3, "its meta.title is missing"), (["json:width"], 0, "its width is a int, not a text"),
    (["json:caption"], 4, "it has no member json; it has none"), (["json:caption"], 5, "its json is no JSON"),
    (["json:nothing"], 0, "its nothing is missing; there is caption, meta, width, tags"), (["json:caption"], 6, "lone surrogate"),
])
def test_a_sample_without_a_field_is_refused_alone(web, fields, i, reason):
    with pytest.raises(DamagedSample, match=reason) as caught:
        read(web, fields, i)
    assert caught.value.sample_id == f"web/web/{i}"


def test_members_that_nobody_asked_for_are_not_read(web):
    data = bytearray(web.read_bytes())
    source = open_source("web", SourceConfig(str(web), fields=("jpg",)))
    data[data.index(b"cap 0")] ^= 1
    web.write_bytes(bytes(data))
    assert source.read(0).members[0].data == b"P0"
    data[data.index(b"P0")] ^= 1
    web.write_bytes(bytes(data))
    with pytest.raises(DamagedSample, match="checksum"):
        source.read(0)


def test_fields_of_our_own_shards(tmp_path):
    with ShardWriter(tmp_path, "a") as writer:
        writer.write("0", [Member(TEXT, "txt", b"t"), Member(IMAGE, "png", b"i")], {"n": 1})
    assert [m.data for m in read(tmp_path, ["1.png", "0.txt"], 0).members] == [b"i", b"t"]


@pytest.mark.parametrize(("field", "says"), [
    ("", "must be a member's ending"), ("a||b", "must be a member's"), ("json:", "must be a member's"), (".jpg", "must be a member's"),
    ("smell=x", "'smell' is no kind of medium; use text, image, video, audio"), ("image=json:x", "only texts"), ("txt:x", "only from JSON"),
    ("text=jpg", "says text, the ending says image"), ("cls", "write text=cls"), ("json", "json:KEY"), ("jpg|txt", "does not say which"),
])
def test_fields_that_cannot_be(field, says):
    with pytest.raises(ValueError, match=r"data\.sources\.web\.fields\[1\] = ") as caught:
        parse_fields("web", ["txt", field])
    assert says in str(caught.value)


def test_keys_of_texts():
    assert text_keys("s", ()) == ("text",) and text_keys("s", ("body", "text=meta.x")) == ("body", "meta.x")
    with pytest.raises(ValueError, match="only texts"):
        text_keys("s", ("image=x",))


def test_a_recipe_says_it(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("data:\n  sources:\n    web: {path: 'w/*.tar', fields: [json:meta.caption, jpg|png, text=cap], disk_gib: 3}\n")
    config = load_config(Recipe, path).data.sources["web"]
    assert config == SourceConfig("w/*.tar", fields=("json:meta.caption", "jpg|png", "text=cap"), disk_gib=3.0)
    path.write_text("data:\n  sources:\n    web: {path: x, disk_gib: 0}\n")
    with pytest.raises(ValueError, match="disk_gib = 0.0 must be above 0"):
        load_config(Recipe, path)


def test_kinds_ranges_and_what_is_compressed(tmp_path):
    for i in range(3):
        tar_of(tmp_path / f"a-{i:02d}.tar", [(f"{i}.txt", b"x")])
    assert len(open_source("s", SourceConfig(str(tmp_path / "a-{00..02}.tar")))) == 3
    with pytest.raises(ValueError, match="no shards at .*a-03.tar"):
        open_source("s", SourceConfig(str(tmp_path / "a-{00..03}.tar")))
    with pytest.raises(ValueError, match="must run upwards"):
        open_source("s", SourceConfig(str(tmp_path / "a-{02..00}.tar")))
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(ValueError, match="jsonl and tar files at .*name one kind"):
        open_source("s", SourceConfig(str(tmp_path / "*")))
    assert len(open_source("s", SourceConfig(str(tmp_path)))) == 3  # what lies beside shards is not data
    (tmp_path / "z").mkdir()
    for name in ("c.jsonl.gz", "d.tar.zst"):
        (tmp_path / "z" / name).write_bytes(b"\x1f\x8b")
        for path in (tmp_path / "z" / name, tmp_path / "z", tmp_path / "z" / "*"):
            with pytest.raises(ValueError, match="is compressed .*gunzip"):
                open_source("s", SourceConfig(str(path)))


def test_a_list_of_texts_gives_a_segment_each(tmp_path):
    lists = ['{"captions": ["a", "b"], "meta": {"alt": ["c"]}}', '{"captions": []}', '{"captions": "a"}', '{"captions": ["a", 5]}']
    files = [file for i, text in enumerate(lists) for file in ((f"{i}.jpg", b"P"), (f"{i}.json", text.encode()))]
    path = tar_of(tmp_path / "lists.tar", [*files, ("4.jpg", b"P"), ("4.all.json", b'["d", "e"]')])
    assert [m.data for m in read(path, ["json:captions[]", "jpg", "json:meta.alt[]"], 0).members] == [b"a", b"b", b"P", b"c"]
    assert [m.data for m in read(path, ["all.json:[]", "jpg"], 4).members] == [b"d", b"e", b"P"]
    for i, reason in ((1, "its captions is no list of texts, or an empty one"), (2, "no list of texts"),
                      (3, r"its captions\[1\] is a int, not a text")):
        with pytest.raises(DamagedSample, match=reason):
            read(path, ["json:captions[]", "jpg"], i)
    with pytest.raises(DamagedSample, match="its captions is a list, not a text"):
        read(path, ["json:captions", "jpg"], 0)


def test_members_above_the_limits_are_refused_before_they_are_read(tmp_path, monkeypatch):
    files = [("0.txt", b"short"), ("0.jpg", b"x" * 300), ("1.txt", b"y" * 200), ("1.jpg", b"x"), ("2.txt", b"short"), ("2.jpg", b"x" * 100),
             ("2.npz", b"z" * 900), ("3.txt", b"short"), ("3.jpg", b"x"), ("3.png", b"x" * 300), ("4.txt", b"t"), ("4.img", b"x" * 300)]
    path, limits, reads = tar_of(tmp_path / "a.tar", files), MediaLimits(max_bytes=250, max_text_bytes=100), []

    def opened(*fields):
        return open_source("a", SourceConfig(str(path), fields=fields), limits=limits)

    source, original = opened(), IndexedFiles.read
    monkeypatch.setattr(IndexedFiles, "read", lambda self, *asked: reads.append(1) or original(self, *asked))
    for i, reason in ((0, "jpg has 300 bytes, more than data.limits.max_bytes = 250"), (1, "txt has 200 bytes, .*max_text_bytes = 100")):
        with pytest.raises(DamagedSample, match=reason):
            source.read(i)
    with pytest.raises(DamagedSample, match="img has 300 bytes, more than data.limits.max_bytes = 250"):
        opened("txt", "image=img").read(4)
    assert not reads
    assert [m.extension for m in source.read(2).members] == ["txt", "jpg"]        # nobody knows what an npz is: it is no image
    assert [m.data for m in opened("txt", "jpg|png").read(3).members] == [b"short", b"x"]
    with pytest.raises(DamagedSample, match="png has 300 bytes"):
        opened("txt", "png|jpg").read(3)
    assert len(open_source("a", SourceConfig(str(path))).read(0).members[1].data) == 300
