"""Runs on pictures of their own sizes: lengths, the same losses packed and unpacked, the sample command, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from micro_run import micro_recipe, run_micro
from PIL import Image

from ernie5.cli.main import main
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.generate.generator import Generator
from ernie5.parallel.torch_engine import TorchEngine
from ernie5.sequence import Kind, Modality

NATIVE = ("data.limits.native_pixels=16384", "data.encode_ahead=0")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Captions and pictures of many sizes, one of them larger than the bound, one of a single pixel."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    sizes = [(1, 1), (400, 300), (16, 130), *random.integers(10, 130, (9, 2)).tolist()]
    with ShardWriter(folder, "documents") as writer:
        for i, (height, width) in enumerate(sizes):
            file = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(file, "PNG")
            writer.write(str(i), (Member(Modality.TEXT, "txt", b"a few words"), Member(Modality.IMAGE, "png", file.getvalue())), {})
    return folder


@pytest.fixture(scope="module")
def sources(micro, pictures):
    demo = micro.folder / "data" / "demo" / "train"
    both = f"pictures: {{path: {pictures}, native: true, weight: 3}}, video: {{path: '{demo}/video-*.tar'}}"
    return f"data.sources={{{both}}}", f"data.heldout={{pictures: {{path: {pictures}, native: true}}}}"


@pytest.fixture(scope="module")
def native(micro, sources, tmp_path_factory):
    return run_micro(micro_recipe(tmp_path_factory.mktemp("native") / "run", micro.folder, *sources, *NATIVE, "understanding.pack=true"))


def test_packed_and_unpacked_runs_have_the_same_losses(micro, native, sources, tmp_path, monkeypatch) -> None:
    packed = []
    plain = TorchEngine.forward_backward

    def watching(self, micro_batches, loss):
        packed.extend(m.packed for m in micro_batches)
        return plain(self, micro_batches, loss)

    monkeypatch.setattr(TorchEngine, "forward_backward", watching)
    by_size = run_micro(micro_recipe(tmp_path / "run", micro.folder, *sources, *NATIVE))
    assert len(packed) == 6 and max(len(p.understand) for p in packed) > 2  # one batch for each size
    for p in packed:
        images = [size for batch in p.understand for size in batch.sizes if size.frames == 1]
        assert sum(size.tokens for size in images) == int((p.kind == Kind.IMAGE_UNDERSTAND).sum())
        assert not (p.kind == Kind.IMAGE_GENERATE).any()
        assert all(size.height * size.width * 64 <= 16384 and size.height % 2 == size.width % 2 == 0 for size in images)
    for one, other in zip(native.metrics, by_size.metrics, strict=True):
        assert one["loss/text"] == pytest.approx(other["loss/text"], rel=1e-5)


def test_a_prompt_keeps_its_size(native, tmp_path, monkeypatch, capsys) -> None:
    shapes = []
    original = Generator.prompt

    def prompt(self, segments):
        shapes.extend(tuple(s.media.shape) for s in segments if s.modality is Modality.IMAGE)
        return original(self, segments)

    monkeypatch.setattr(Generator, "prompt", prompt)
    file = tmp_path / "x.png"
    Image.new("RGB", (100, 40), "red").save(file)
    assert main(["sample", str(native.folder), "--image", str(file), "--to", "text"]) == 0
    assert shapes == [(1, 3, 48, 96)]


def test_tokens_are_counted_at_that_size(native, sources, tmp_path, capsys) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((Path(native.folder) / "recipe.yaml").read_text())
    assert yaml.safe_load(recipe.read_text())["data"]["sources"]["pictures"]["native"] is True
    assert main(["data", "inspect", "--recipe", str(recipe), "--tokenizers", str(native.folder)]) == 0
    told = capsys.readouterr().out
    assert "image read" in told and "image generated" not in told
    most = next(line for line in told.splitlines() if line.startswith("image read")).split()[-1]
    assert int(most) == 63  # 400 x 300 pixels in 16384: 9 x 7 tokens


def test_what_cannot_be_is_named(tmp_path, sources) -> None:
    with pytest.raises(ValueError, match="native_pixels = 1048576 lets an image of data.sources.pictures have 4096 tokens"):
        micro_recipe(tmp_path, None, *sources, "data.limits.native_pixels=1048576").check()
    with pytest.raises(ValueError, match="have 0 tokens"):
        micro_recipe(tmp_path, None, *sources, "data.limits.native_pixels=255").check()
    micro_recipe(tmp_path, None, "data.limits.native_pixels=1048576").check()  # nothing is native


def test_patches_are_cells_of_the_tokenizer(micro, tmp_path) -> None:
    with pytest.raises(ValueError, match="understanding.patch = 16 must be the stride of the vision tokenizer, 8"):
        run_micro(micro_recipe(tmp_path / "run", micro.folder, "understanding.patch=16"))
