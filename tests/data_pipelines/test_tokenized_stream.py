"""Tokenized shards give the batches that encoding on the fly gives, bit for bit, or are refused by name."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from make_media import image_bytes, sound_bytes
from micro_run import micro_recipe, run_micro, same_run

from ernie5.cli.main import main
from ernie5.data_pipelines.encode import Encoder
from ernie5.data_pipelines.loader import BatchShape, Loader, StreamConfig
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.sample_maker import SampleMaker
from ernie5.data_pipelines.sources import SourceConfig, open_source
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.sequence import Modality
from ernie5.train.assemble import grouping_of, mixture_of, vocabulary_of, widths_of
from ernie5.train.prepare import load_tokenizers, open_sources, open_training_sources

SHAPE = BatchShape(4, 256, 2)
BUCKET = "data.augment.aspect_buckets=[{height: 16, width: 32}]"
KINDS = ("image", "video", "audio", "text", "document")
TEXTS = (b"\xef\xbb\xbfwith a mark\n\n", b"two\r\nlines \xf0\x9f\x98\x80", "ümläut 漢字".encode())


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Pictures of two aspects with two captions, sounds, texts; two samples are damaged."""
    folder, random = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    with ShardWriter(folder, "mine", samples_per_shard=5) as writer:
        for i in range(14):
            picture = image_bytes(random.integers(0, 256, (40, 40 + 40 * (i % 2), 3), np.uint8))
            if i in (3, 9):
                picture = picture[: len(picture) // 2]
            texts = [Member(Modality.TEXT, "txt", TEXTS[i % 3]), Member(Modality.TEXT, "txt", f"the other caption of {i}".encode())]
            sound = Member(Modality.AUDIO, "wav", sound_bytes(seconds=0.3 + 0.1 * i))
            writer.write(f"{i}", [*texts, sound if i % 3 == 2 else Member(Modality.IMAGE, "png", picture)], {"number": i})
    return folder


def tokenize(source, out, micro, *options: str) -> str:
    assert main(["data", "tokenize", str(source), str(out), "--run", str(micro.folder), "--samples-per-shard", "6", *options]) == 0
    return str(out)


@pytest.fixture(scope="module")
def demo_codes(micro, tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    return {kind: tokenize(kind, folder / kind, micro) for kind in KINDS}


def recipe_of(micro, sources: dict, *overrides: str):
    listed = ", ".join(f"{name}: {{path: {path}}}" for name, path in sources.items())
    return micro_recipe(micro.folder.parent / "unused", micro.folder, f"data.sources={{{listed}}}", *overrides)


def corpus_of(recipe, log):
    return open_training_sources(recipe, Quarantine(log, 0.5), load_tokenizers(recipe))


def facts(recipe, log, workers: int = 0, steps: int = 6) -> list:
    """Everything in the first batches, and what was rejected on the way."""
    corpus, tokenizers, bad = corpus_of(recipe, log), load_tokenizers(recipe), []
    maker = SampleMaker(corpus.read, lambda key, reason: bad.append((key, reason)), lambda: None, Encoder(tokenizers, cache_gib=0.0),
                        grouping_of(recipe, tokenizers), recipe.data.roles, seed=3, views=corpus.views())
    widths = widths_of(vocabulary_of(recipe, tokenizers))
    loader = Loader(maker, mixture_of(recipe, {n: len(s) for n, s in corpus.sources.items()}), widths, config=StreamConfig(workers))
    found = [[plain(batch.micro_batches), batch.state.to_json(), batch.sample_ids] for batch in (loader.next(SHAPE) for _ in range(steps))]
    loader.close()
    return [found, bad]


def plain(value) -> list:
    """Tensors as bytes, so that equal means equal in every bit."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape), value.contiguous().numpy().tobytes()]
    if dataclasses.is_dataclass(value):
        return [plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    return [plain(part) for part in value] if isinstance(value, tuple | list) else value


def test_a_run_from_codes_is_the_run(micro, demo_codes, tmp_path) -> None:
    sources = ", ".join(f"{kind}: {{path: {path}}}" for kind, path in demo_codes.items())
    same_run(micro, run_micro(micro_recipe(tmp_path / "run", micro.folder, f"data.sources={{{sources}}}")))


def test_same_batches_with_workers_mixed_sources_and_damage(micro, raw, demo_codes, tmp_path) -> None:
    codes = tokenize(raw, tmp_path / "codes", micro)
    demo = {kind: f"demo:train/{kind}" for kind in KINDS}
    expected = facts(recipe_of(micro, {**demo, "mine": raw}), tmp_path / "log")
    assert {key for key, _ in expected[1]} == {"mine/3", "mine/9"}
    everything = recipe_of(micro, {**demo_codes, "mine": codes})
    assert facts(everything, tmp_path / "log") == expected
    assert facts(everything, tmp_path / "log", workers=2) == expected
    assert facts(recipe_of(micro, {**demo, "video": demo_codes["video"], "mine": codes}), tmp_path / "log") == expected


def test_buckets_and_captions(micro, raw, tmp_path) -> None:
    codes = tokenize(raw, tmp_path / "codes", micro, BUCKET)
    ways = [recipe_of(micro, {"mine": path}, BUCKET, "data.augment.caption=true") for path in (raw, codes)]
    assert facts(ways[0], tmp_path / "log") == facts(ways[1], tmp_path / "log")


def test_bits_alone_and_without_pixels(micro, raw, tmp_path, capsys) -> None:
    off, made = "data.history.flip_max=0", ("data.roles.image=1", "data.roles.video=1")
    out = {name: tokenize(raw, tmp_path / name, micro, off, *options) for name, options in
           {"all": (), "bits": ("--bits",), "bare": ("--bits", "--generate-only"), "latents": ("--generate-only",)}.items()}
    abouts = {name: open_source("mine", SourceConfig(path)).abouts for name, path in out.items()}
    size = {name: sum(about.bytes["codes"] for about in found) for name, found in abouts.items()}
    assert size["bare"] < size["latents"] < size["bits"] < size["all"] and not any("pixels" in about.bytes for about in abouts["bare"])
    expected = facts(recipe_of(micro, {"mine": raw}, off), tmp_path / "log")
    assert facts(recipe_of(micro, {"mine": out["bits"]}, off), tmp_path / "log", workers=1) == expected
    expected = facts(recipe_of(micro, {"mine": raw}, off, *made), tmp_path / "log")
    assert facts(recipe_of(micro, {"mine": out["bare"]}, off, *made), tmp_path / "log") == expected
    assert facts(recipe_of(micro, {"mine": out["latents"]}, off, *made), tmp_path / "log", workers=1) == expected
    with pytest.raises(ValueError, match=r"data.history.flip_max = 0.25 must be 0 for data.sources.mine, whose shards hold bits alone"):
        corpus_of(recipe_of(micro, {"mine": out["bits"]}), tmp_path / "log")
    with pytest.raises(ValueError, match=r"data.roles.image = 0.5 must be 1 for data.sources.mine"):
        corpus_of(recipe_of(micro, {"mine": out["latents"]}), tmp_path / "log")
    assert main(["data", "tokenize", str(raw), str(tmp_path / "other"), "--run", str(micro.folder), "--bits"]) == 2
    assert "--bits: data.history.flip_max = 0.25" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "message"), [
    ("data.limits.audio_seconds=0.5", r"data.limits.audio_seconds = 0.5 must be 1.04, with which the audio codes of data.sources.mine"),
    ("data.limits.image_size={height: 16, width: 16}", r"data.limits.image_size = \[16, 16\] must be \[32, 32\]"),
    ("data.limits.max_text_bytes=7", "data.limits.max_text_bytes = 7 must be 1048576"),
    (BUCKET, r"data.augment.aspect_buckets = \[\[16, 32\]\] must be \[\]"),
    ("data.augment.crop={}", "data.augment.crop makes other media in every draw, and data.sources.mine holds codes"),
    ("data.augment.speed=0.1", "data.augment.speed makes other media in every draw"),
    ("data.limits.video_size={height: 16, width: 16}", None),  # there are no clips
    ("data.sources.mine.fields=[txt]", "data.sources.mine.fields chooses segments"),
], ids=lambda value: str(value)[:30])
def test_other_settings_are_refused(micro, demo_codes, raw, change, message, tmp_path_factory) -> None:
    folder = tmp_path_factory.getbasetemp() / "settings_codes"
    codes = str(folder) if folder.exists() else tokenize(raw, folder, micro)
    recipe = recipe_of(micro, {"mine": codes}, change)
    if message is None:
        assert len(corpus_of(recipe, folder / "log").sources["mine"]) == 14
        return
    with pytest.raises(ValueError, match=message):
        corpus_of(recipe, folder / "log")


def test_codes_of_another_tokenizer_are_refused(micro, raw, tmp_path, capsys) -> None:
    codes, other = tokenize(raw, tmp_path / "codes", micro), tmp_path / "other"
    shutil.copytree(micro.folder / "tokenizers", other / "tokenizers")
    shutil.copytree(micro.folder / "data", other / "data")
    recipe = micro_recipe(tmp_path / "run", other, f"data.sources={{mine: {{path: {codes}}}}}")
    before = load_tokenizers(recipe)
    corpus_of(recipe, tmp_path / "log")
    with torch.no_grad():
        before.vision.feature_mean.add_(1e-6)
    before.vision.save(other / "tokenizers" / "vision")
    now = load_tokenizers(recipe).vision.fingerprint
    then = load_tokenizers(micro_recipe(tmp_path / "run", micro.folder)).vision.fingerprint
    assert now != then
    with pytest.raises(ValueError, match=rf"mine \({raw.name}-000000.tar\) holds codes of the vision tokenizer {then}, this run has {now}"):
        corpus_of(recipe, tmp_path / "log")
    words = ["data", "tokenize", str(raw), codes, "--run", str(micro.folder), "--tokenizers", str(other), "--samples-per-shard", "6"]
    assert main(words) == 2  # nor does a folder go on with it
    assert f"codes was begun with another made_by.image.tokenizer ({then}, now {now})" in capsys.readouterr().err


def test_only_training_reads_codes(micro, demo_codes, tmp_path, capsys) -> None:
    codes = demo_codes["image"]
    recipe = recipe_of(micro, {"mine": codes}, f"data.heldout={{image: {{path: {codes}}}}}")
    with pytest.raises(ValueError, match=r"image \(.*\) holds codes of ernie5 data tokenize, which only training reads"):
        open_sources(recipe, recipe.data.heldout, None)
    with pytest.raises(ValueError, match="set run.tokenizers to the run whose tokenizers"):
        open_training_sources(recipe, None)
    (tmp_path / "clean.yaml").write_text("steps: [{exact: {}}]")
    for words in (["curate", str(tmp_path / "clean.yaml"), codes, str(tmp_path / "a")], ["tokenize", codes, str(tmp_path / "b"), "--run",
                                                                                       str(micro.folder)]):
        assert main(["data", *words]) == 2
        assert "holds codes" in capsys.readouterr().err
