"""The vision tokenizer as a whole: training, encode, decode, save and load."""

import json
from dataclasses import replace

import pytest
import torch

from ernie5.tokenizers.vision.batches import MediaBatches
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.tokenizers.vision.generation import VisionGenerationTokenizer
from ernie5.tokenizers.vision.losses import balance_loss, foreground_weight, gradient_loss, reconstruction_loss
from ernie5.tokenizers.vision.train import train_vision_tokenizer

SIZES = VisionTokenizerConfig(
    channels=(8, 8, 16), blocks=(0, 0, 1), bits=6, warmup_steps=2,
    image_steps=6, image_batch=4, video_steps=3, video_images=2, video_clips=2,
)


def random_media(num: int, t: int, h: int = 16, w: int = 16) -> list[torch.Tensor]:
    """Soft random pictures: noise of a quarter of the size, enlarged."""
    noise = torch.rand(num, t, 3, h // 4, w // 4, generator=torch.Generator().manual_seed(num + t)) * 255
    large = torch.nn.functional.interpolate(noise.flatten(0, 1), scale_factor=4, mode="bilinear").unflatten(0, (num, t))
    return list(large.to(torch.uint8))


IMAGES, CLIPS = random_media(8, 1), random_media(3, 9)


@pytest.fixture(scope="module")
def tokenizer() -> VisionGenerationTokenizer:
    return train_vision_tokenizer(SIZES, IMAGES, CLIPS, seed=3)


def test_training_is_a_function_of_the_seed(tokenizer):
    torch.manual_seed(99)  # the global stream must not matter, nor be moved
    before = torch.get_rng_state()
    assert train_vision_tokenizer(SIZES, IMAGES, CLIPS, seed=3).fingerprint == tokenizer.fingerprint
    assert torch.equal(before, torch.get_rng_state())
    assert train_vision_tokenizer(SIZES, IMAGES, CLIPS, seed=4).fingerprint != tokenizer.fingerprint


def test_training_learns():
    def error(steps: int) -> float:
        trained = train_vision_tokenizer(replace(SIZES, image_steps=steps, video_steps=1), IMAGES, [], seed=3)
        return sum((trained.reconstruct(m).float() - m.float()).square().mean().item() for m in IMAGES)

    assert error(30) < 0.7 * error(1)


def test_codes_have_the_shapes_of_the_contract(tokenizer):
    image, clip = tokenizer.encode(IMAGES[0]), tokenizer.encode(CLIPS[0])
    assert image.latent.shape == (1, 6, 2, 2) and image.features.shape == (1, 16, 2, 2)
    assert clip.latent.shape == (3, 6, 2, 2) and clip.features.shape == (9, 16, 2, 2)
    assert (tokenizer.stride, tokenizer.temporal_stride, tokenizer.feature_dim, tokenizer.quantizer.bits) == (8, 4, 16, 6)
    total = tokenizer.quantizer.encode(clip.latent).total
    decoded = tokenizer.decode(total)
    assert decoded.shape == CLIPS[0].shape and decoded.dtype == torch.uint8


def test_features_are_those_of_each_frame_as_an_image(tokenizer):
    features = tokenizer.encode(CLIPS[0]).features
    for frame in (0, 5):
        alone = tokenizer.encode(CLIPS[0][frame:frame + 1]).features
        torch.testing.assert_close(features[frame:frame + 1], alone, rtol=1e-4, atol=1e-5)


def test_save_and_load_keep_codes_and_fingerprint(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "vision")
    loaded = VisionGenerationTokenizer.load(tmp_path / "vision")
    assert loaded.fingerprint == tokenizer.fingerprint and not loaded.training
    assert torch.equal(loaded.encode(CLIPS[0]).latent, tokenizer.encode(CLIPS[0]).latent)
    assert torch.equal(loaded.reconstruct(IMAGES[0]), tokenizer.reconstruct(IMAGES[0]))


def test_files_that_do_not_belong_together_are_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "fingerprint": "0" * 16}))
    with pytest.raises(ValueError, match="does not belong"):
        VisionGenerationTokenizer.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "kind": "audio"}))
    with pytest.raises(ValueError, match="no vision tokenizer"):
        VisionGenerationTokenizer.load(tmp_path)


@pytest.mark.parametrize("media, words", [
    (torch.zeros(1, 3, 16, 20, dtype=torch.uint8), "multiples of the stride = 8"),
    (torch.zeros(3, 3, 16, 16, dtype=torch.uint8), "temporal_stride = 4"),
    (torch.zeros(1, 3, 16, 16), "must be uint8"),
    (torch.zeros(1, 1, 16, 16, dtype=torch.uint8), "must be uint8 t 3 h w"),
])
def test_media_that_do_not_fit_are_named(tokenizer, media, words):
    with pytest.raises(ValueError, match=words):
        tokenizer.encode(media)


def test_training_copes_with_missing_kinds_and_several_shapes():
    quick = replace(SIZES, image_steps=2, video_steps=2)
    assert train_vision_tokenizer(quick, [], CLIPS, seed=0).encode(CLIPS[0]).latent.isfinite().all()
    assert train_vision_tokenizer(quick, IMAGES, [], seed=0).reconstruct(CLIPS[0]).shape == CLIPS[0].shape
    assert train_vision_tokenizer(quick, [], [], seed=0).reconstruct(IMAGES[0]).shape == IMAGES[0].shape
    wide = random_media(3, 1, 16, 32)
    mixed = train_vision_tokenizer(quick, IMAGES + wide, CLIPS, seed=0)
    assert mixed.quantizer.scales(2, 4) == ((1, 1), (1, 2), (2, 4))
    assert mixed.reconstruct(wide[0]).shape == wide[0].shape


def test_batches_are_a_function_of_the_step_and_hold_one_shape():
    media = IMAGES + random_media(3, 1, 16, 32)
    batches = MediaBatches(media, 4, seed=1, purpose="test")
    assert torch.equal(batches.draw(7), MediaBatches(media, 4, seed=1, purpose="test").draw(7))
    assert {tuple(batches.draw(step).shape[1:]) for step in range(20)} == {(1, 3, 16, 16), (1, 3, 16, 32)}


def test_losses_weigh_the_foreground_edges_and_idle_bits():
    target = torch.ones(1, 1, 3, 8, 8)
    target[..., 2:4, 2:4] = -1
    weight = foreground_weight(target, 3.0)
    assert weight[..., 2, 2].item() == 4 and weight[..., 0, 0].item() == 1
    off_object, off_ground = target.clone(), target.clone()
    off_object[..., 2, 2] += 0.5
    off_ground[..., 7, 7] += 0.5
    heavy, light = (reconstruction_loss(x, target, foreground=3.0, squared=0.0) for x in (off_object, off_ground))
    torch.testing.assert_close(heavy, 4 * light)
    assert gradient_loss(target + 0.3, target).item() < 1e-6 < gradient_loss(off_ground, target).item()
    idle = torch.cat([torch.ones(2, 1, 1, 1), -torch.ones(2, 1, 1, 1)])  # says only which kind it is
    assert balance_loss([idle], [2, 2]).item() == 1 and balance_loss([idle], [4]).item() == 0


def test_configuration_mistakes_are_named():
    with pytest.raises(ValueError, match="clip_share = 1"):
        VisionTokenizerConfig(clip_share=1.0)
    with pytest.raises(ValueError, match="image_batch = 0"):
        VisionTokenizerConfig(image_batch=0)
    with pytest.raises(ValueError, match="temporal_stride = 1"):
        VisionTokenizerConfig(temporal_stride=1)
