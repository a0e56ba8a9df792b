"""Critics of sounds: their maps, their gradient, and that each kind learns to tell tones from noise."""

import pytest
import torch

from ernie5.tokenizers.adversarial import AdversarialConfig, Adversary
from ernie5.tokenizers.audio.critic import SoundCritic

SOUNDS = 0.3 * torch.sin(torch.arange(1600) * torch.tensor([0.05, 0.1, 0.2])[:, None])


def test_every_view_has_its_map_and_its_features():
    judged = SoundCritic((256, 512), (2, 3), channels=3)(SOUNDS)
    assert len(judged.logits) == 4 and all(len(x) == 3 and x.shape[1] == 1 for x in judged.logits)
    assert len(judged.features) == 5 + 5 + 4 + 4
    assert judged.mean.ndim == 0


@pytest.mark.parametrize("windows, periods", [((256,), ()), ((), (3,))])
def test_a_critic_learns_to_tell_and_gives_a_gradient(windows, periods):
    torch.manual_seed(0)
    adversary = Adversary(SoundCritic(windows, periods, channels=4), AdversarialConfig(weight=1.0, ramp=1, lr=5e-3))
    noise = 0.2 * torch.randn(3, 1600)
    for step in range(12):
        numbers = adversary.learn(SOUNDS, noise, step)
    assert numbers["critic_real"] > numbers["critic_decoded"] + 0.3
    decoded = noise.clone().requires_grad_()
    (-adversary.critic(decoded).mean).backward()
    assert torch.isfinite(decoded.grad).all() and decoded.grad.abs().max() > 0


def test_silence_has_a_gradient():
    critic = SoundCritic((256,), (2,), channels=2)
    silence = torch.zeros(1, 800, requires_grad=True)
    critic(silence).mean.backward()
    assert torch.isfinite(silence.grad).all()
