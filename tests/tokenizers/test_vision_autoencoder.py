"""The causal autoencoder: inflation, causality, prefix of channels, shapes."""

import pytest
import torch

from ernie5.tokenizers.vision.causal_autoencoder import AutoencoderConfig, CausalAutoencoder, inflate

SIZES = AutoencoderConfig(channels=(8, 8, 16), blocks=(0, 1, 1), bits=6)


def random_pixels(n: int, t: int, h: int = 16, w: int = 16) -> torch.Tensor:
    return torch.rand(n, t, 3, h, w, generator=torch.Generator().manual_seed(t)) * 2 - 1


def settled(model: CausalAutoencoder) -> CausalAutoencoder:
    """With running statistics that differ from their start values."""
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model.encode(random_pixels(4, 1))
    return model.eval()


@pytest.fixture
def image() -> CausalAutoencoder:
    torch.manual_seed(0)
    return settled(CausalAutoencoder(SIZES.image_model()))


@pytest.fixture
def video() -> CausalAutoencoder:
    """All temporal slices at work."""
    torch.manual_seed(1)
    return settled(CausalAutoencoder(SIZES))


@torch.no_grad()
def test_after_inflation_pictures_are_identical(image):
    torch.manual_seed(2)
    video = CausalAutoencoder(SIZES)
    inflate(image, video.eval())
    pixels = random_pixels(3, 1)
    assert torch.equal(video.encode(pixels), image.encode(pixels))
    assert torch.equal(video.decode(image.encode(pixels)), image.decode(image.encode(pixels)))


@torch.no_grad()
def test_after_inflation_the_last_frame_of_a_chunk_is_a_picture(image):
    video = CausalAutoencoder(SIZES)
    inflate(image, video.eval())
    clip = random_pixels(2, 9)
    torch.testing.assert_close(video.encode(clip), image.encode(clip[:, ::4]), rtol=1e-4, atol=1e-5)
    output = video.decode(video.encode(clip))
    torch.testing.assert_close(output[:, ::4], image.decode(image.encode(clip[:, ::4])), rtol=1e-4, atol=1e-5)


def test_inflation_refuses_another_network(image):
    with pytest.raises(ValueError, match="must agree"):
        inflate(image, CausalAutoencoder(AutoencoderConfig(channels=(8, 8, 16), blocks=(0, 1, 2), bits=6)))


@torch.no_grad()
def test_a_clip_of_nine_frames_has_three_latent_frames(video):
    latent = video.encode(random_pixels(2, 9, 16, 24))
    assert latent.shape == (2, 3, 6, 2, 3)
    assert video.decode(latent).shape == (2, 9, 3, 16, 24)


@torch.no_grad()
@pytest.mark.parametrize("frame, first_changed", [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2)])
def test_latent_frames_depend_on_the_past_only(video, frame, first_changed):
    clip = random_pixels(1, 9)
    changed = clip.clone()
    changed[:, frame] *= -1
    difference = (video.encode(clip) - video.encode(changed)).abs().amax((0, 2, 3, 4))
    assert (difference[:first_changed] == 0).all() and difference[first_changed] > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("latent_frame, first_changed", [(0, 0), (1, 1), (2, 5)])
def test_decoded_frames_depend_on_the_past_only(video, latent_frame, first_changed):
    latent = video.encode(random_pixels(1, 9))
    changed = latent.clone()
    changed[:, latent_frame] += 1
    difference = (video.decode(latent) - video.decode(changed)).abs().amax((0, 2, 3, 4))
    assert (difference[:first_changed] == 0).all() and difference[first_changed] > 1e-3


@torch.no_grad()
def test_the_first_frame_of_a_clip_is_an_image(video):
    clip = random_pixels(1, 9)
    latent = video.encode(clip)
    torch.testing.assert_close(video.encode(clip[:, :1]), latent[:, :1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(video.decode(latent[:, :1]), video.decode(latent)[:, :1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_first_channels_of_the_latent_do_not_depend_on_the_others(video):
    """The encoder's half of the nested series: cutting the last channels off leaves the first as they are."""
    pixels = random_pixels(2, 9)
    latent = video.encode(pixels)
    video.to_latent.weight[4:] = 0.7
    video.to_latent.bias[4:] = -3.0
    other = video.encode(pixels)
    assert torch.equal(latent[:, :, :4], other[:, :, :4]) and not torch.equal(latent[:, :, 4:], other[:, :, 4:])


def test_gradients_reach_every_weight(video):
    video.train()
    video.decode(video.encode(random_pixels(2, 9))).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in video.parameters() if p is not video.to_latent.bias)


def test_sizes_that_cannot_work_are_named():
    with pytest.raises(ValueError, match="multiples of 8"):
        AutoencoderConfig(channels=(8, 12))
    with pytest.raises(ValueError, match="one number per level"):
        AutoencoderConfig(channels=(8, 16), blocks=(1, 1, 1))
