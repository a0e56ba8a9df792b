"""The demo world on disk: real files in shards, judged right after decoding, the split kept, the same bytes again."""

import json
import tarfile
from io import BytesIO
from pathlib import PurePath

import av
import pytest
import soundfile
import torch
from einops import rearrange
from PIL import Image

from ernie5.data_pipelines.synthetic.captions import caption, parse_caption
from ernie5.data_pipelines.synthetic.combinations import ATTRIBUTES, KINDS, all_combinations, split_combinations
from ernie5.data_pipelines.synthetic.demo import DemoConfig, write_demo
from ernie5.data_pipelines.synthetic.encode_media import encode_jpeg, encode_mp4, encode_wav
from ernie5.data_pipelines.synthetic.judge import judge, score
from ernie5.data_pipelines.synthetic.render_clip import render_clip
from ernie5.data_pipelines.synthetic.render_image import render_image
from ernie5.data_pipelines.synthetic.render_sound import render_sound
from ernie5.data_pipelines.synthetic.text_corpus import FORMS, Draw, text_line
from ernie5.run.random_streams import stream

CONFIG = DemoConfig(num_images=60, num_clips=30, num_sounds=40, num_texts=30, num_documents=24, num_heldout=16, seed=3)


def decode(extension, data):
    """Bytes of one file -> the medium, by the plain libraries."""
    match extension:
        case "txt":
            return data.decode("utf-8")
        case "png" | "jpg":
            picture = torch.frombuffer(bytearray(Image.open(BytesIO(data)).convert("RGB").tobytes()), dtype=torch.uint8)
            return rearrange(picture, "(t h w c) -> t c h w", t=1, h=32, c=3)
        case "mp4":
            with av.open(BytesIO(data)) as container:
                frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
            return rearrange(torch.stack(frames), "t h w c -> t c h w")
        case "flac" | "wav":
            wave, rate = soundfile.read(BytesIO(data), dtype="float32")
            assert rate == 16_000
            return torch.from_numpy(wave)
    raise AssertionError(extension)


def read(shard):
    """A shard -> [(attributes, [(modality, extension, bytes)])]."""
    samples = []
    with tarfile.open(shard) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    for name in files:
        if name.endswith(".json"):
            header = json.loads(files[name])
            names = [f"{name.removesuffix('.json')}.{segment['member']}" for segment in header["segments"]]
            parts = [(s["modality"], PurePath(n).suffix[1:], files[n]) for s, n in zip(header["segments"], names, strict=True)]
            samples.append((header["attributes"], parts))
    return samples


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, write_demo(folder, CONFIG)


def test_layout_and_summary(demo):
    folder, summary = demo
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.tar")}
    assert names == {f"train/{name}-000000.tar" for name in (*KINDS, "text", "document")} | {
        f"heldout/{name}-000000.tar" for name in (*KINDS, "text")}
    assert summary.num_samples["train/video"] == 30 and summary.num_samples["heldout/text"] == 16
    assert all(len(read(folder / f"{name}-000000.tar")) == number for name, number in summary.num_samples.items())
    assert summary.num_bytes == sum(path.stat().st_size for path in folder.rglob("*.tar"))
    assert json.loads((folder / "demo.json").read_text())["config"]["seed"] == 3


@pytest.mark.parametrize("part", ["train", "heldout"])
@pytest.mark.parametrize("kind", KINDS)
def test_stored_media_carry_their_attributes_and_keep_the_split(kind, part, demo):
    samples = read(demo[0] / part / f"{kind}-000000.tar")
    allowed = {c.values for c in getattr(split_combinations(kind, CONFIG.seed), part)}
    for attributes, parts in samples:
        assert attributes["kind"] == kind and tuple(attributes[name] for name in ATTRIBUTES[kind]) in allowed
        assert [modality for modality, _, _ in parts] == ["text", kind]
        truth = {name: attributes[name] for name in ATTRIBUTES[kind]}
        assert parse_caption(kind, decode(*parts[0][1:])) == truth
    truths = [{name: attributes[name] for name in ATTRIBUTES[kind]} for attributes, _ in samples]
    assert score(judge(kind, [decode(*parts[1][1:]) for _, parts in samples]), truths)["accuracy"] == 1.0
    used = [tuple(truth.values()) for truth in truths]
    assert max(map(used.count, used)) <= -(-len(used) // len(allowed)), "combinations take turns"


def test_formats_are_mixed(demo):
    extensions = {name: {parts[1][1] for _, parts in read(demo[0] / "train" / f"{name}-000000.tar")} for name in KINDS}
    assert extensions == {"image": {"png", "jpg"}, "video": {"mp4"}, "audio": {"flac", "wav"}}


def test_documents_mix_media_with_text_about_them(demo):
    samples = read(demo[0] / "train" / "document-000000.tar")
    assert {modality for _, parts in samples for modality, _, _ in parts} == {"text", "image", "video", "audio"}
    for attributes, parts in samples:
        told = " ".join(decode(extension, data) for modality, extension, data in parts if modality == "text")
        media = [(i, modality, decode(extension, data)) for i, (modality, extension, data) in enumerate(parts) if modality != "text"]
        assert 2 <= len(media) <= 3 and attributes["kind"] == "document"
        for i, modality, medium in media:
            seen = judge(modality, [medium])[0]
            assert seen == {name: attributes[f"{i}.{name}"] for name in ATTRIBUTES[modality]}
        assert sum(caption(c) in told for kind in KINDS for c in split_combinations(kind, CONFIG.seed).train) >= len(media) - 1
        assert not any(caption(c) in told for kind in KINDS for c in split_combinations(kind, CONFIG.seed).heldout)


def test_text_keeps_the_split_and_its_length(demo):
    for part, other in (("train", "heldout"), ("heldout", "train")):
        lines = [decode(*parts[0][1:]) for _, parts in read(demo[0] / part / "text-000000.tar")]
        assert all(12 <= len(line.split()) <= 33 for line in lines)
        foreign = [caption(c) for kind in KINDS for c in getattr(split_combinations(kind, CONFIG.seed), other)]
        assert not [line for line in lines if any(text in line for text in foreign)]


def test_every_sentence_form_is_used_and_fits():
    pools = {kind: split_combinations(kind, 0).train for kind in KINDS}
    longest = [max(len(form(Draw(pools, stream(0, "form", i))).split()) for i in range(40)) for form in FORMS]
    assert min(longest) >= 5 and max(longest) <= 22
    assert len({text_line(pools, stream(0, "line", i)) for i in range(100)}) > 90


def test_same_settings_same_bytes_other_seed_other_bytes(demo, tmp_path):
    tiny = DemoConfig(num_images=5, num_clips=3, num_sounds=3, num_texts=3, num_documents=3, num_heldout=2, seed=3)
    write_demo(tmp_path / "a", tiny)
    write_demo(tmp_path / "b", tiny)
    write_demo(tmp_path / "c", DemoConfig(**{**vars(tiny), "seed": 4}))
    paths = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    a, b, c = ([(tmp_path / x / path).read_bytes() for path in paths] for x in "abc")
    assert a == b and all(one != other for one, other in zip(a, c, strict=True) if one[:1] != b"{")
    longer, shorter = (read(folder / "train" / "image-000000.tar") for folder in (demo[0], tmp_path / "a"))
    assert longer[:5] == shorter, "more samples begin with the same ones"


def test_shards_are_not_written_over(demo):
    with pytest.raises(ValueError, match="already holds shards"):
        write_demo(demo[0], CONFIG)


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="num_clips = -1"):
        DemoConfig(num_clips=-1)


def test_files_are_close_to_what_was_rendered():
    combination = {kind: all_combinations(kind)[0] for kind in KINDS}
    picture = render_image(combination["image"], stream(0, "file"))
    clip = render_clip(combination["video"], stream(0, "file"))
    wave = render_sound(combination["audio"], stream(0, "file"))
    assert (decode("jpg", encode_jpeg(picture)).float() - picture.float()).abs().mean() < 3
    decoded = decode("mp4", encode_mp4(clip, 8))
    assert decoded.shape == clip.shape and (decoded.float() - clip.float()).abs().mean() < 3
    assert (decode("wav", encode_wav(wave, 16_000)) - wave).abs().max() < 1e-4
