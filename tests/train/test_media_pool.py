"""Media of any size and kind, read from shards when drawn: what comes out fits the tokenizer, what cannot be used is passed over."""

import io
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ernie5.config import load_config
from ernie5.data_pipelines.decode_image import decode_image
from ernie5.data_pipelines.decode_upright import decode_upright
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, VisionSize
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.recipe import Recipe
from ernie5.sequence import Modality
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer
from ernie5.tokenizers.vision.train import train_vision_tokenizer
from ernie5.tokenizers.vision.windows import Window, WindowBatches, WindowConfig
from ernie5.train.media_pool import CorpusPool
from ernie5.train.prepare import open_training_sources
from ernie5.train.train_tokenizers import prepare

WINDOWS = WindowConfig(sizes=((16, 16), (16, 24)), clip_sizes=((16, 16),), zoom=(0.5, 1.0))


def picture(size: tuple[int, int], mode: str = "RGB", kind: str = "PNG", exif: Image.Exif | None = None) -> bytes:
    """A picture of noise. `size`: width, height."""
    random = np.random.default_rng(size[0])
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 65536, size[::-1], np.uint16))
    else:
        channels = len(Image.new(mode, (1, 1)).getbands())
        image = Image.fromarray(random.integers(0, 256, (*size[::-1], channels), np.uint8).squeeze(-1 if channels == 1 else ()), mode)
    file = io.BytesIO()
    image.save(file, kind, **({"exif": exif} if exif else {}))
    return file.getvalue()


ODD = {"1x1": ((1, 1), "RGB"), "flat": ((10_000, 1), "RGB"), "high": ((1, 10_000), "RGB"), "grey": ((20, 30), "L"),
       "alpha": ((30, 20), "RGBA"), "16 bits": ((20, 20), "I;16")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Texts alone; pictures of odd kinds beside a damaged one; a document with two pictures."""
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, "text") as writer:
        for i in range(3):
            writer.write(str(i), (Member(Modality.TEXT, "txt", b"words"),), {})
    with ShardWriter(folder, "odd") as writer:
        for i, (size, mode) in enumerate(ODD.values()):
            writer.write(str(i), (Member(Modality.IMAGE, "png", picture(size, mode)),), {})
        writer.write("damaged", (Member(Modality.IMAGE, "png", picture((20, 20))[:-40]),), {})
        writer.write("words", (Member(Modality.TEXT, "txt", b"words"),), {})
        two = (Member(Modality.IMAGE, "png", picture((24, 16))), Member(Modality.IMAGE, "png", picture((48, 32))))
        writer.write("two", two, {})
    sources = {name: {"path": str(folder / f"{name}-*.tar")} for name in ("text", "odd")}
    recipe = load_config(Recipe, {"run": {"dir": str(folder / "run")}, "data": {"sources": sources, "tolerance": 0.9}})
    return open_training_sources(recipe, Quarantine(folder / "quarantine.jsonl", 0.9))


@pytest.fixture
def pool(corpus):
    return CorpusPool(corpus, Modality.IMAGE, WINDOWS)


def test_pictures_of_every_kind_come_at_the_wanted_size(pool, caplog):
    assert len(pool) == len(ODD) + 3                                      # the source of texts is left out
    with caplog.at_level(logging.DEBUG):
        found = [pool.window(i, Window(16, 24, 0.7, 0.2, 0.9)) for i in range(len(pool))]
    assert [x is None for x in found] == [False] * len(ODD) + [True, True, False]
    assert all(x.shape == (1, 3, 16, 24) and x.dtype == torch.uint8 for x in found if x is not None)
    assert "odd/6 is left out" in caplog.text
    assert not torch.equal(pool.window(8, Window(16, 24)), pool.window(8, Window(16, 24, pick=0.6)))  # both pictures are there


def test_draws_do_not_depend_on_what_was_drawn_before(corpus, pool):
    tiny = replace(WINDOWS, cache_gib=1e-9)
    batches, other = (WindowBatches(CorpusPool(corpus, Modality.IMAGE, windows), windows, windows.sizes, 3, seed=1, purpose="x")
                      for windows in (WINDOWS, tiny))
    late = batches.draw(9)
    for step in range(3):
        other.draw(step)
    assert torch.equal(other.draw(9), late) and len(other.pool._kept) == 1
    assert len(CorpusPool(corpus, Modality.VIDEO, WINDOWS)) == 0


def test_a_picture_is_kept_no_larger_than_it_is_used():
    limits = MediaLimits()
    assert decode_upright(picture((300, 200)), limits, 50).size == (75, 50)
    assert decode_upright(picture((30, 20)), limits, 50).size == (30, 20)
    assert decode_upright(picture((10_000, 1)), limits, 50).size == (10_000, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_upright(picture((300, 200), kind="JPEG", exif=exif), limits, 50).size == (50, 75)
    with pytest.raises(BadMedia, match="max_pixels = 100"):
        decode_upright(picture((30, 20)), MediaLimits(max_pixels=100), 50)


@pytest.mark.parametrize("kind", ODD)
def test_odd_pictures_pass_through_decoder_and_tokenizer(kind):
    torch.manual_seed(0)
    sizes = VisionTokenizerConfig(channels=(8, 8, 8), blocks=(0, 0, 0), bits=4).autoencoder
    tokenizer = VisionGenerationTokenizer(GenerationTokenizerConfig(sizes, 3))
    size, mode = ODD[kind]
    pixels = decode_image(picture(size, mode), MediaLimits(image_size=VisionSize(16, 24)))
    codes = tokenizer.encode(pixels)
    assert codes.latent.shape == (1, 4, 2, 3) and codes.latent.isfinite().all()
    decoded = tokenizer.reconstruct(pixels)
    assert decoded.shape == pixels.shape and decoded.dtype == torch.uint8
    with pytest.raises(ValueError, match="must be (uint8 t 3 h w|multiples of the stride = 8)"):
        tokenizer.encode(torch.zeros(1, 3 if mode == "RGB" else len(mode), size[1], size[0], dtype=torch.uint8))


def test_a_recipe_with_windows_trains_from_its_sources(corpus, tmp_path):
    vision = {"channels": [8, 8, 8], "blocks": [0, 0, 0], "bits": 4, "image_steps": 2, "image_batch": 2, "warmup_steps": 1,
              "windows": {"sizes": [[16, 16], [16, 24]], "clip_sizes": [[16, 16]]}}
    plain = {"run": {"dir": str(tmp_path)}, "tokenizers": {"vision": vision},
             "data": {"sources": {"odd": {"path": corpus.recipe.data.sources["odd"].path}}, "heldout": {}, "tolerance": 0.9}}
    recipe = load_config(Recipe, plain)
    prepare(recipe, only="vision")
    made = VisionGenerationTokenizer.load(tmp_path / "tokenizers" / "vision")
    assert sorted(path.name for path in (tmp_path / "tokenizers").iterdir()) == ["vision"]
    opened = open_training_sources(recipe, Quarantine(tmp_path / "q.jsonl", 0.9))
    pool = CorpusPool(opened, Modality.IMAGE, recipe.tokenizers.vision.windows)
    assert made.fingerprint == train_vision_tokenizer(recipe.tokenizers.vision, pool, [], seed=0).fingerprint
