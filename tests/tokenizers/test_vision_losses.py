"""Entropy of bits, critics, networks that judge, the semantic branch: each against its formula, and each refusing what it cannot use."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from ernie5.tokenizers.adversarial import Judged
from ernie5.tokenizers.vision.critic import ClipCritic, PictureCritic
from ernie5.tokenizers.vision.losses import entropy_loss
from ernie5.tokenizers.vision.perceptual import STAGES, PerceptualConfig, VggDistance, load_perceptual
from ernie5.tokenizers.vision.semantic import SemanticBranch, SemanticConfig, load_semantic


def pixels(n: int, seed: int, h: int = 16, w: int = 24) -> torch.Tensor:
    return torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_entropy_is_low_for_sure_and_varied_bits():
    sure = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1)
    stuck, unsure = torch.ones(4, 1, 1, 1), torch.zeros(4, 1, 1, 1)
    found = [entropy_loss([x], [4], 1.0).item() for x in (sure, stuck, unsure)]
    assert found == pytest.approx([-1, 0, 0], abs=1e-3)
    assert entropy_loss([unsure], [4], 0.0).item() == pytest.approx(1)                      # one fair bit
    quarter = torch.full((4, 2, 3, 3), -0.5)                                                # p = 1/4
    h = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert entropy_loss([quarter, sure.expand(4, 2, 1, 1)], [4], 0.5).item() == pytest.approx((h - 0.5 * h - 0.5) / 2, abs=1e-3)


def test_entropy_of_48_bits_costs_48_numbers():
    soft = torch.rand(2, 48, 32, 32).mul(2).sub(1).requires_grad_()
    entropy_loss([soft], [2], 1.0).backward()
    assert soft.grad is not None and soft.grad.isfinite().all() and soft.grad.abs().sum() > 0


def test_critics_score_patches_of_frames_and_of_moving_pictures():
    torch.manual_seed(0)
    clip = torch.rand(2, 5, 3, 32, 48)
    frames, moving = PictureCritic(8), ClipCritic(8)
    judged = frames(clip)
    assert [tuple(x.shape) for x in judged.logits] == [(10, 1, 4, 6)] and len(judged.features) == 4
    assert len(moving(clip).logits) == 2 and len(moving(clip[:, :1]).logits) == 1
    alone = frames(clip[1:, 3:4]).logits[0]
    torch.testing.assert_close(alone, judged.logits[0][8:9], rtol=1e-4, atol=1e-5)          # beside nobody, the same score
    later = clip.clone()
    later[:, 4] += 1
    assert not torch.equal(moving(clip).logits[1], moving(later).logits[1])
    assert isinstance(judged, Judged) and judged.mean.ndim == 0
    with pytest.raises(ValueError, match="adversarial.channels = 6"):
        PictureCritic(6)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory) -> dict[str, torch.Tensor]:
    """A file with torchvision's names."""
    generator, tensors, inputs = torch.Generator().manual_seed(0), {}, 3
    for size, numbers in zip((64, 128, 256, 512, 512), STAGES, strict=True):
        for number in numbers:
            tensors[f"features.{number}.weight"] = torch.randn(size, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
            tensors[f"features.{number}.bias"] = torch.randn(size, generator=generator) * 0.1
            inputs = size
    return tensors


def test_vgg_distance_is_its_formula(vgg, tmp_path):
    save_file(vgg, tmp_path / "vgg16.safetensors")
    distance = load_perceptual(PerceptualConfig("vgg16", str(tmp_path / "vgg16.safetensors")))
    x, y = pixels(2, 1), pixels(2, 2)
    assert distance(x, x).item() == 0 and not any(p.requires_grad for p in distance.parameters())
    expected, a, b = 0.0, x, y
    mean, scale = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    a, b = ((z * 0.5 + 0.5 - mean) / scale for z in (a, b))
    for stage, numbers in enumerate(STAGES):
        if stage:
            a, b = F.max_pool2d(a, 2), F.max_pool2d(b, 2)
        for number in numbers:
            a, b = (F.relu(F.conv2d(z, vgg[f"features.{number}.weight"], vgg[f"features.{number}.bias"], padding=1)) for z in (a, b))
        p, q = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
        expected += (p - q).square().mean(1).mean().item()
    assert distance(x, y).item() == pytest.approx(expected, rel=1e-4)
    nearer = x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    assert distance(nearer, x) < distance(y, x)


def test_lpips_weights_in_the_file_are_used(vgg, tmp_path):
    lins = {f"lin{i}.model.1.weight": torch.full((1, size, 1, 1), 2 / size) for i, size in enumerate((64, 128, 256, 512, 512))}
    save_file(vgg, tmp_path / "plain.safetensors")
    save_file({**vgg, **lins}, tmp_path / "lpips.safetensors")
    plain, doubled = (VggDistance.load(str(tmp_path / f"{name}.safetensors")) for name in ("plain", "lpips"))
    x, y = pixels(1, 1), pixels(1, 2)
    assert doubled(x, y).item() == pytest.approx(2 * plain(x, y).item(), rel=1e-4)


def test_files_that_are_no_vgg_are_named(vgg, tmp_path):
    with pytest.raises(ValueError, match="no safetensors file"):
        VggDistance.load(str(tmp_path / "nothing.safetensors"))
    save_file({name: x for name, x in vgg.items() if name != "features.28.bias"}, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"features.28.bias must be \(512,\), not nothing"):
        VggDistance.load(str(tmp_path / "cut.safetensors"))
    with pytest.raises(ValueError, match="perceptual.path is empty"):
        PerceptualConfig("vgg16")
    with pytest.raises(ValueError, match="perceptual.part = lpips"):
        PerceptualConfig("lpips")


class Colours:
    """A teacher: its features are the colours of 4 x 6 squares, in two scales."""

    dim = 6

    @classmethod
    def load(cls, folder: str) -> "Colours":
        assert folder == "somewhere"
        return cls()

    def to(self, device: str) -> "Colours":
        return self

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        small = F.adaptive_avg_pool2d(pixels, (4, 6))
        return torch.cat([small, small.square()], 1)


def test_the_semantic_branch_pulls_bits_towards_what_the_teacher_sees():
    torch.manual_seed(0)
    branch = load_semantic(SemanticConfig(f"{__name__}:Colours", "somewhere"), bits=5)
    assert isinstance(branch, SemanticBranch) and list(branch.state_dict()) == ["projection.weight", "projection.bias"]
    total, target = nn.Parameter(torch.randn(2, 5, 2, 3)), pixels(2, 1)
    told, wanted = F.interpolate(branch.projection(total), (4, 6), mode="bilinear", antialias=True), Colours().features(target)
    assert branch(total, target).item() == pytest.approx(1 - F.cosine_similarity(told, wanted, dim=1).mean().item(), abs=1e-5)
    before = branch(total, target).item()
    optimizer = torch.optim.Adam([total, *branch.parameters()], lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        branch(total, target).backward()
        optimizer.step()
    assert branch(total, target).item() < 0.5 * before
    branch.margin = 0.9
    assert branch(total, target).item() == pytest.approx(0, abs=0.1)                        # near enough costs nothing


def test_teachers_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ValueError, match="semantic.folder is empty"):
        SemanticConfig("dinov2")
    with pytest.raises(ValueError, match="needs the package transformers|lacks config.json"):
        load_semantic(SemanticConfig("dinov2", str(tmp_path)), 4)
    with pytest.raises(ValueError, match="semantic.margin = 1"):
        SemanticConfig(margin=1.0)
    assert load_semantic(SemanticConfig(), 4) is None


def test_dinov2_gives_a_map_of_its_patches(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    torch.manual_seed(0)
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    branch = load_semantic(SemanticConfig("dinov2", str(tmp_path)), bits=4)
    assert branch._teacher[0].features(pixels(2, 1, 28, 42)).shape == (2, 16, 2, 3)
    branch(torch.randn(2, 4, 2, 3), pixels(2, 1, 28, 42)).backward()
    assert branch.projection.weight.grad.abs().sum() > 0
