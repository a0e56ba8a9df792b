"""The loop of all tokenizer trainings: what was interrupted goes on exactly, and a step that is not finite changes nothing."""

import os
import signal

import pytest
import torch
from torch import nn

from ernie5.run.signals import Stopped
from ernie5.tokenizers.adversarial import AdversarialConfig, Adversary, Judged, adaptive_weight, hinge
from ernie5.tokenizers.audio.codec import AudioCodecConfig
from ernie5.tokenizers.audio.train import AudioCodecTraining, train_audio_codec
from ernie5.tokenizers.fit import MAX_SKIPPED, Saves, fit
from ernie5.tokenizers.optimizer_tensors import load_optimizer, optimizer_tensors
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.tokenizers.vision.train import train_vision_tokenizer


class Line:
    """Fits y = 2 x; `poison` names steps whose loss is not finite, `stop_after` the step that a signal comes in."""

    def __init__(self, num_steps=6, poison=(), stop_after=None):
        self.num_steps, self.poison, self.stop_after = num_steps, poison, stop_after
        self.weight = nn.Parameter(torch.zeros(1))
        self.optimizer = torch.optim.AdamW([self.weight], lr=0.1)
        self.seen = []

    def step(self, step):
        self.seen.append(step)
        if step == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        if step in self.poison:
            return {"loss": float("nan")}
        loss = (self.weight - 2.0).square().sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}

    def tensors(self):
        return {"weight": self.weight.detach(), **optimizer_tensors(self.optimizer, "adamw")}

    def load(self, tensors):
        with torch.no_grad():
            self.weight.copy_(tensors["weight"])
        load_optimizer(self.optimizer, tensors, "adamw")


def test_a_stopped_training_goes_on_exactly(tmp_path):
    whole = Line()
    fit(whole, "line")
    first = Line(stop_after=2)
    with pytest.raises(Stopped, match="stopped after step 3 of 6"):
        fit(first, "line", Saves(tmp_path, "a", every=0))
    second = Line()
    fit(second, "line", Saves(tmp_path, "a", every=0))
    assert first.seen == [0, 1, 2] and second.seen == [3, 4, 5]
    assert all(torch.equal(value, second.tensors()[name]) for name, value in whole.tensors().items())
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6


def test_checkpoints_of_other_settings_are_not_taken_up(tmp_path, caplog):
    fit(Line(3), "line", Saves(tmp_path, "a", every=1))
    other = Line(3)
    fit(other, "line", Saves(tmp_path, "b", every=1))
    assert other.seen == [0, 1, 2] and "other settings" in caplog.text


def test_single_bad_steps_pass_and_many_end_the_training():
    fit(Line(200, poison=range(0, 200, 2)), "line")
    with pytest.raises(ValueError, match=f"not finite in {MAX_SKIPPED} steps in a row"):
        fit(Line(200, poison=range(10, 200)), "line")


class Crash(BaseException):
    """A power cut."""


def interrupted(monkeypatch, module, owner, at, train):
    """Train, die before step `at`, train again."""
    original = owner.step

    def step(self, number):
        if number == at:
            raise Crash
        return original(self, number)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(owner, "step", step)
        train()
    return train()


def test_vision_training_resumes_bit_for_bit(tmp_path, monkeypatch):
    from ernie5.tokenizers.vision import train as module

    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=generator) for _ in range(6)]
    clips = [torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=generator) for _ in range(3)]
    config = VisionTokenizerConfig(channels=(8, 8), blocks=(0, 1), bits=4, image_steps=4, image_batch=2, video_steps=4, video_images=2,
                                   video_clips=2)

    def train(saves=None):
        return train_vision_tokenizer(config, images, clips, seed=3, saves=saves)

    again = interrupted(monkeypatch, module, module.Stage, 3, lambda: train(Saves(tmp_path, "x", every=2)))
    assert again.fingerprint == train().fingerprint


def test_audio_training_resumes_bit_for_bit(tmp_path, monkeypatch):
    from ernie5.tokenizers.audio import train as module

    sounds = [torch.rand(2560, generator=torch.Generator().manual_seed(i)) - 0.5 for i in range(4)]
    config = AudioCodecConfig(num_codebooks=2, codebook_size=8, latent_dim=4, dim=8, frame_dim=16, num_blocks=0, phase_iterations=1)
    training = AudioCodecTraining(num_steps=8, batch_size=2, crop_frames=2, kmeans_latents=16)

    def train(saves=None):
        return train_audio_codec(config, sounds, seed=1, training=training, saves=saves)

    again = interrupted(monkeypatch, module, module._Trainer, 5, lambda: train(Saves(tmp_path, "x", every=4)))
    assert again.fingerprint == train().fingerprint


def test_a_step_that_is_not_finite_changes_nothing():
    from ernie5.tokenizers.vision.batches import MediaBatches
    from ernie5.tokenizers.vision.causal_autoencoder import CausalAutoencoder
    from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
    from ernie5.tokenizers.vision.train import Stage

    config = VisionTokenizerConfig(channels=(8, 8), blocks=(0, 0), bits=4)
    model = CausalAutoencoder(config.autoencoder.image_model())
    images = [torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    stage = Stage(config, model, MultiscaleResidualQuantizer(3, 4), [MediaBatches(images, 2, seed=0, purpose="x")], [1.0], 9)
    stage.step(0)
    with torch.no_grad():
        model.to_latent.bias[0] = torch.inf
    before = {name: value.clone() for name, value in stage.tensors().items()}
    assert not torch.isfinite(torch.tensor(stage.step(1)["loss"]))
    assert all(torch.equal(value, before[name]) for name, value in stage.tensors().items())


class Mean(nn.Module):
    """A critic that looks at the mean of each item alone."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, media):
        value = media.mean(1) * self.weight
        return Judged([value], [media * self.weight])


def test_hinge_and_adaptive_weight_are_their_formulas():
    assert hinge([torch.tensor([2.0, 0.0])], [torch.tensor([-2.0, 0.5])]) == pytest.approx((0 + 1) / 2 + (0 + 1.5) / 2)
    last = nn.Parameter(torch.tensor([3.0, 4.0]))
    share = adaptive_weight((last * torch.tensor([3.0, 4.0])).sum(), (last * torch.tensor([0.0, 0.5])).sum(), last)
    assert share == pytest.approx(5 / (0.5 + 1e-4)) and not share.requires_grad


def test_a_critic_learns_and_tells_the_decoder_the_direction():
    adversary = Adversary(Mean(), AdversarialConfig(weight=1.0, start=2, ramp=2, lr=0.05))
    assert [adversary.weight(step) for step in range(5)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    last = nn.Parameter(torch.tensor(0.2))
    real = torch.ones(4, 8)
    decoded = last * real
    assert adversary.learn(real, decoded, 1) == {} and adversary.decoder_loss(real, decoded, last.square(), last, 1) == 0
    for _ in range(3):
        assert adversary.learn(real, decoded, 3)["critic"] > 0
    assert adversary.mean_real > adversary.mean_decoded
    adversary.decoder_loss(real, decoded, last.square(), last, 4).backward()
    assert last.grad < 0  # a larger value looks more real
    assert adversary.critic.weight.grad is None
    adversary.learn(torch.full((4, 8), torch.inf), decoded, 5)
    assert torch.isfinite(adversary.critic.weight).all() and torch.isfinite(adversary.mean_real)


def test_the_state_of_a_critic_comes_back():
    adversary, other = (Adversary(Mean(), AdversarialConfig(weight=1.0, ramp=1)) for _ in range(2))
    adversary.learn(torch.ones(2, 3), torch.zeros(2, 3), 0)
    other.load(adversary.tensors())
    for one in (adversary, other):
        one.learn(torch.ones(2, 3), torch.zeros(2, 3), 1)
    assert all(torch.equal(value, other.tensors()[name]) for name, value in adversary.tensors().items())
