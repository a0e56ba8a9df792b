"""The understanding encoder and its two patch mergers."""

import dataclasses

import pytest
import torch

from ernie5.tokenizers.vision.mlp_merger import MlpMerger
from ernie5.tokenizers.vision.patch_merger import PatchMerger
from ernie5.tokenizers.vision.understanding import UnderstandingConfig, UnderstandingEncoder, groups

SIZES = UnderstandingConfig(patch=4, dim=16, num_layers=1, num_heads=2)


@pytest.fixture(params=["attention", "mlp"])
def encoder(request) -> UnderstandingEncoder:
    torch.manual_seed(0)
    return UnderstandingEncoder(dataclasses.replace(SIZES, merger=request.param), feature_dim=6, out_dim=10)


def media(n: int, f: int, h: int, w: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n + f)
    pixels = torch.randint(0, 256, (n, f, 3, 4 * h, 4 * w), generator=generator, dtype=torch.uint8)
    return pixels, torch.randn(n, f, 6, h, w, generator=generator)


@pytest.mark.parametrize("f, h, w, tokens", [(1, 4, 4, 4), (4, 4, 4, 4), (1, 2, 6, 3), (1, 3, 5, 6), (4, 1, 1, 1)])
def test_four_or_sixteen_patches_become_one_token(encoder, f, h, w, tokens):
    assert encoder(*media(3, f, h, w)).shape == (3, tokens, 10)


def test_an_empty_batch_gives_every_weight_a_gradient_of_zeros(encoder):
    tokens = encoder(*media(0, 1, 4, 4))
    assert tokens.shape == (0, 4, 10)
    tokens.sum().backward()
    assert all(p.grad is not None and torch.count_nonzero(p.grad) == 0 for p in encoder.parameters())


@pytest.mark.parametrize("f", [1, 4])
def test_both_paths_learn(encoder, f):
    encoder(*media(2, f, 4, 4)).square().sum().backward()
    merger = encoder.merger
    if isinstance(merger, MlpMerger):
        by_slot = merger.mix.weight.grad.unflatten(1, (merger.num_slots, -1)).transpose(0, 1)
    else:
        by_slot = merger.slots.grad.transpose(0, 1)
    assert torch.count_nonzero(by_slot[4 * f:]) == 0 and all(torch.count_nonzero(slot) > 0 for slot in by_slot[:4 * f])
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_tokens_come_in_row_major_order():
    h, w = 4, 6
    numbers = torch.arange(h * w).reshape(1, 1, h, w, 1)
    grouped = groups(numbers)[0, :, :, 0]  # m K
    assert grouped[0].tolist() == [0, 1, 6, 7] and grouped[1].tolist() == [2, 3, 8, 9] and grouped[3].tolist() == [12, 13, 18, 19]


def test_odd_grids_repeat_their_edge():
    grouped = groups(torch.arange(9).reshape(1, 1, 3, 3, 1))[0, :, :, 0]
    assert grouped[1].tolist() == [2, 2, 5, 5] and grouped[3].tolist() == [8, 8, 8, 8]


def test_a_token_depends_on_the_pixels_of_the_whole_frame_and_features_of_its_own_patches(encoder):
    pixels, features = media(1, 1, 4, 4)
    with torch.no_grad():
        before = encoder(pixels, features)
        changed = features.clone()
        changed[..., 3, 3] += 1
        moved = (encoder(pixels, changed) - before).abs().amax((0, 2))
        other = pixels.clone()
        other[..., -1, -1] = 255 - other[..., -1, -1]
        seen = (encoder(other, features) - before).abs().amax((0, 2))
    assert moved[3] > 1e-4 and (moved[:3] == 0).all() and (seen > 1e-7).all()


def test_media_do_not_mix(encoder):
    pixels, features = media(3, 4, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels, features)[1:2], encoder(pixels[1:2], features[1:2]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["attention", "mlp"])
def test_the_merger_knows_places_and_paths(kind):
    torch.manual_seed(0)
    merger = PatchMerger(dim=8, out_dim=5, num_heads=2, num_slots=4) if kind == "attention" else MlpMerger(dim=8, out_dim=5, num_slots=4)
    with torch.no_grad():
        if kind == "attention":
            merger.slots.mul_(50)
        cnn, vit = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 4, 8)
        token = merger(cnn, vit)
        assert token.shape == (2, 3, 5)
        assert not torch.allclose(token, merger(cnn[:, :, [1, 0, 2, 3]], vit[:, :, [1, 0, 2, 3]]))
        assert not torch.allclose(token, merger(vit, cnn))


def test_an_image_is_a_clip_of_which_only_the_first_frame_is_there():
    merger = MlpMerger(dim=8, out_dim=5, num_slots=16)
    cnn, vit = torch.randn(2, 3, 16, 8), torch.randn(2, 3, 16, 8)
    with torch.no_grad():
        image = merger(cnn[:, :, :4], vit[:, :, :4])
        merger.mix.weight.view(8, 16, -1)[:, 4:] = 0  # blind to the other frames
        torch.testing.assert_close(merger(cnn, vit), image)


@pytest.mark.parametrize(("dim", "out_dim", "num_slots"), [(64, 128, 16), (64, 256, 16), (128, 128, 16), (64, 128, 32)])
def test_both_mergers_have_about_as_many_weights(dim, out_dim, num_slots):
    attention, mlp = PatchMerger(dim, out_dim, 4, num_slots), MlpMerger(dim, out_dim, num_slots)
    sizes = [sum(p.numel() for p in merger.parameters()) for merger in (attention, mlp)]
    assert 0.95 < sizes[1] / sizes[0] < 1.05


def test_mistakes_are_named(encoder):
    with pytest.raises(ValueError, match="1 .image. or 4"):
        encoder(*media(1, 2, 4, 4))
    pixels, features = media(1, 1, 4, 4)
    with pytest.raises(ValueError, match="do not fit"):
        encoder(pixels, features[..., :3])
    with pytest.raises(ValueError, match="multiple of 4"):
        UnderstandingConfig(dim=18)
    with pytest.raises(ValueError, match="at most 4"):
        PatchMerger(8, 8, 2, 4)(torch.randn(1, 1, 5, 8), torch.randn(1, 1, 5, 8))
    with pytest.raises(ValueError, match="at most 4"):
        MlpMerger(8, 8, 4)(torch.randn(1, 1, 5, 8), torch.randn(1, 1, 5, 8))
