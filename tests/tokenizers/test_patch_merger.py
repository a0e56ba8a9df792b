"""The two patch mergers: K patches seen by two encoders become one token."""

import pytest
import torch

from ernie5.tokenizers.vision.mlp_merger import MlpMerger
from ernie5.tokenizers.vision.patch_merger import PatchMerger


@pytest.mark.parametrize("kind", ["attention", "mlp"])
def test_the_merger_knows_places_and_paths(kind):
    torch.manual_seed(0)
    merger = PatchMerger(dim=8, out_dim=5, num_heads=2, num_slots=4) if kind == "attention" else MlpMerger(dim=8, out_dim=5, num_slots=4)
    with torch.no_grad():
        if kind == "attention":
            merger.slots.mul_(50)
        cnn, vit = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
        token = merger(cnn, vit)
        assert token.shape == (3, 5)
        assert not torch.allclose(token, merger(cnn[:, [1, 0, 2, 3]], vit[:, [1, 0, 2, 3]]))
        assert not torch.allclose(token, merger(vit, cnn))


def test_attention_merger_is_the_formula_of_the_report():
    torch.manual_seed(0)
    merger = PatchMerger(dim=8, out_dim=5, num_heads=2, num_slots=4)
    cnn, vit = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    with torch.no_grad():
        x = torch.cat([cnn[0] + merger.slots[0], vit[0] + merger.slots[1]])                   # 2K C
        q, k, v = merger.qkv(merger.norm(x)).chunk(3, -1)
        heads = [torch.softmax(q[:, h] @ k[:, h].T / 2, -1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))]  # sqrt(C / heads) = 2
        token = merger.out(merger.out_norm((x + merger.mix(torch.cat(heads, -1))).mean(0)))
        torch.testing.assert_close(merger(cnn, vit)[0], token)


def test_an_image_is_a_clip_of_which_only_the_first_frame_is_there():
    merger = MlpMerger(dim=8, out_dim=5, num_slots=16)
    cnn, vit = torch.randn(3, 16, 8), torch.randn(3, 16, 8)
    with torch.no_grad():
        image = merger(cnn[:, :4], vit[:, :4])
        merger.mix.weight.view(8, 16, -1)[:, 4:] = 0  # blind to the other frames
        torch.testing.assert_close(merger(cnn, vit), image)


@pytest.mark.parametrize(("dim", "out_dim", "num_slots"), [(64, 128, 16), (64, 256, 16), (128, 128, 16), (64, 128, 32)])
def test_both_mergers_have_about_as_many_weights(dim, out_dim, num_slots):
    attention, mlp = PatchMerger(dim, out_dim, 4, num_slots), MlpMerger(dim, out_dim, num_slots)
    sizes = [sum(p.numel() for p in merger.parameters()) for merger in (attention, mlp)]
    assert 0.95 < sizes[1] / sizes[0] < 1.05


def test_too_many_patches_are_named():
    for merger in (PatchMerger(8, 8, 2, 4), MlpMerger(8, 8, 4)):
        with pytest.raises(ValueError, match="at most 4"):
            merger(torch.randn(1, 5, 8), torch.randn(1, 5, 8))
