"""Training of the causal codec: it learns, every draw is a function of the step, and it resumes bit for bit with its critic."""

import dataclasses
import sys
import types

import pytest
import torch

from ernie5.tokenizers.adversarial import AdversarialConfig
from ernie5.tokenizers.audio import losses
from ernie5.tokenizers.audio.causal_codec import CausalCodec
from ernie5.tokenizers.audio.causal_config import CausalCodecConfig, CausalNetworkConfig
from ernie5.tokenizers.audio.causal_train import CausalTrainee, train_causal_codec
from ernie5.tokenizers.audio.causal_training import CausalTraining
from ernie5.tokenizers.audio.mel_scales import MelScales
from ernie5.tokenizers.audio.recordings import Recordings
from ernie5.tokenizers.fit import Saves

NETWORK = CausalNetworkConfig(steps_per_frame=4, fft_size=960, latent_dim=8, dim=24, frame_dim=32, step_blocks=1)
SMALL = CausalCodecConfig(num_codebooks=3, codebook_size=16, network=NETWORK)
SHORT = CausalTraining(num_steps=70, matrix_lr=0.04, batch_size=8, crop_frames=4, warmup_steps=5, kmeans_latents=200,
                       mel_windows=(512, 1024), device="cpu")
CRITIC = AdversarialConfig(weight=0.1, start=3, ramp=2, feature_matching=1.0, channels=2)
BRIEF = dataclasses.replace(SHORT, num_steps=8, batch_size=2, crop_frames=2, kmeans_latents=32, warm_share=0.2)


def tones(count: int = 12) -> list[torch.Tensor]:
    """Tones of 0.2-0.4 s at several pitches, each with a pause."""
    sounds = []
    for i in range(count):
        time_s = torch.arange(3200 + 320 * i) / 16_000
        sounds.append(0.2 * torch.sin(2 * torch.pi * 220 * (1 + i % 4) * time_s) * (time_s > 0.02 * (i % 5)))
    return sounds


@pytest.fixture(scope="module")
def trained() -> CausalCodec:
    return train_causal_codec(SMALL, tones(), seed=1, training=SHORT)


def distance(codec: CausalCodec, levels: int) -> float:
    sounds = [sound[:2560] for sound in tones()]
    decoded = torch.stack([codec.decode(codec.encode(sound)[:, :levels]) for sound in sounds])
    return float(losses.log_mel_distance(decoded, torch.stack(sounds), 16_000))


def test_training_brings_the_sound_closer_and_uses_the_codes(trained):
    untrained = train_causal_codec(SMALL, tones(), seed=1, training=dataclasses.replace(SHORT, num_steps=2))
    assert distance(trained, 3) < 0.8 * distance(untrained, 3)
    assert distance(trained, 3) < distance(trained, 1)
    codes = torch.cat([trained.encode(sound) for sound in tones()])
    assert min(len(codes[:, q].unique()) for q in range(3)) >= 8


def trainee(training: CausalTraining, config: CausalCodecConfig = SMALL) -> CausalTrainee:
    return CausalTrainee(config, Recordings.of(tones(4)), training, seed=2)


@pytest.mark.parametrize("change", [
    {"distance": "cosine"}, {"teacher": "none"}, {"wave_weight": 0.1}, {"mel_weight": 1.0}, {"dropout_share": 0.0},
    {"loudness_db": (-20.0, -20.0)}, {"bf16": True}, {"adversarial": CRITIC},
    {"adversarial": CRITIC, "critic_windows": (), "critic_periods": (2, 3)},
])
def test_every_setting_trains_and_counts(change):
    plain, other = trainee(BRIEF), trainee(dataclasses.replace(BRIEF, **change))
    for step in range(5):
        numbers = [t.step(step) for t in (plain, other)][1]
    assert all(torch.isfinite(p).all() for p in other.codec.parameters())
    assert torch.isfinite(torch.tensor(list(numbers.values()))).all()
    assert other.codec.fingerprint != plain.codec.fingerprint


def test_a_learned_phase_is_learned_from_what_is_heard(monkeypatch):
    config = dataclasses.replace(SMALL, network=dataclasses.replace(NETWORK, phase="learned"))
    one = trainee(dataclasses.replace(BRIEF, num_steps=30, mel_weight=1.0, warm_share=0.9), config)
    before, sounds = one.codec.phase.out.weight.detach().clone(), one.batch(0)
    monkeypatch.setattr(one, "batch", lambda step: sounds)
    heard = [one.step(step)["mel"] for step in range(25)]
    assert sum(heard[-5:]) < 0.8 * sum(heard[:5])
    assert not torch.equal(before, one.codec.phase.out.weight)


def test_training_resumes_bit_for_bit_with_its_critic(tmp_path, monkeypatch):
    training = dataclasses.replace(BRIEF, adversarial=CRITIC, critic_windows=(256,), critic_periods=(3,))

    class Crash(BaseException):
        pass

    def train(saves=None):
        return train_causal_codec(SMALL, tones(4), seed=2, training=training, saves=saves)

    step = CausalTrainee.step
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(CausalTrainee, "step", lambda self, number: (_ for _ in ()).throw(Crash) if number == 6 else step(self, number))
        train(Saves(tmp_path, "x", every=5))
    seen = []
    monkeypatch.setattr(CausalTrainee, "step", lambda self, number: (seen.append(number), step(self, number))[1])
    again = train(Saves(tmp_path, "x", every=5))
    assert seen == [5, 6, 7]
    assert again.fingerprint == train().fingerprint


def test_all_that_moves_is_saved():
    training = dataclasses.replace(BRIEF, adversarial=CRITIC, critic_windows=(256,))
    one, other = trainee(training), trainee(training)
    for step in range(5):
        one.step(step)
    other.load({name: value.clone() for name, value in one.tensors().items()})
    for t in (one, other):
        t.step(5)
    assert one.tensors().keys() == other.tensors().keys()
    assert all(torch.equal(value, other.tensors()[name]) for name, value in one.tensors().items())


def test_a_step_that_is_not_finite_changes_nothing(monkeypatch):
    one = trainee(dataclasses.replace(BRIEF, adversarial=CRITIC))
    for step in range(5):
        one.step(step)
    before = {name: value.clone() for name, value in one.tensors().items()}
    healthy = one.batch(5)
    monkeypatch.setattr(one, "batch", lambda step: torch.where(torch.arange(healthy.shape[1]) == 700, torch.nan, healthy))
    assert not torch.isfinite(torch.tensor(one.step(5)["loss"]))
    assert all(torch.equal(value, before[name]) for name, value in one.tensors().items())
    monkeypatch.setattr(one, "batch", lambda step: healthy)
    assert torch.isfinite(torch.tensor(one.step(6)["loss"]))


def test_dropped_levels_are_drawn_per_sound_and_step():
    one = trainee(dataclasses.replace(BRIEF, dropout_share=0.5))
    drawn = torch.stack([one._levels(step, 8) for step in range(200)])
    assert torch.equal(drawn[7], one._levels(7, 8))
    assert drawn.min() == 1 and drawn.max() == 3
    assert float((drawn == 3).float().mean()) == pytest.approx(0.5 + 0.5 / 3, abs=0.05)


def test_codes_are_for_what_can_be_heard():
    one = trainee(dataclasses.replace(BRIEF, silent_share=0.25))
    sounds = torch.zeros(40, 4 * 1280)
    sounds[:, 1280:2560] = 0.1
    worth = torch.stack([one._worth_codes(sounds, step) for step in range(20)]).float()        # 20 n f
    assert worth[..., 1].all()
    assert float(worth[..., [0, 2, 3]].mean()) == pytest.approx(0.25, abs=0.03)
    with pytest.raises(ValueError, match="all recordings are silent"):
        train_causal_codec(SMALL, [torch.zeros(4000)], seed=0, training=dataclasses.replace(BRIEF, silent_share=0.0))


def test_the_mel_loss_looks_at_short_and_long_windows():
    mel = MelScales((256, 1024), 16_000)
    sound = torch.stack([s[:3200] for s in tones(3)])
    assert float(mel.loss(sound, sound)) == 0
    little, much = (float(mel.loss(sound + scale * torch.randn_like(sound), sound)) for scale in (0.001, 0.1))
    assert 0 < little < much


def test_a_teacher_of_ones_own_is_named_in_the_recipe(monkeypatch):
    class Loudness:
        def __init__(self, path, sample_rate_hz, hop_samples):
            assert (path, sample_rate_hz) == ("weights", 16_000)
            self.dim, self.hop_samples = 2, hop_samples

        def features(self, sounds):
            return sounds.unfold(1, self.hop_samples, self.hop_samples).square().mean(-1, keepdim=True).expand(-1, -1, 2)

    module = types.ModuleType("own_teacher")
    module.Loudness = Loudness
    monkeypatch.setitem(sys.modules, "own_teacher", module)
    one = trainee(dataclasses.replace(BRIEF, teacher="own_teacher:Loudness", teacher_path="weights"))
    numbers = [one.step(step) for step in range(4)][-1]
    assert numbers["distillation"] > 0
    with pytest.raises(ValueError, match="must be one of logmel, whisper, none, or module:Class"):
        trainee(dataclasses.replace(BRIEF, teacher="hubert"))


@pytest.mark.parametrize("change, message", [
    ({"num_steps": 0}, "num_steps = 0 must be at least 1"),
    ({"warm_share": 1.0}, "warm_share = 1.0"),
    ({"dropout_share": 2.0}, "dropout_share = 2.0"),
    ({"silent_share": -1.0}, "silent_share = -1.0"),
    ({"loudness_db": (-10.0, -20.0)}, "loudness_db"),
    ({"mel_windows": (30,)}, "mel_windows"),
    ({"distance": "l1"}, "must be one of l2, cosine"),
    ({"adversarial": CRITIC, "critic_windows": ()}, "the critic would see nothing"),
])
def test_impossible_trainings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SHORT, **change)


def test_training_without_sounds_is_refused():
    with pytest.raises(ValueError, match="no readable sound"):
        train_causal_codec(SMALL, [], seed=0, training=BRIEF)
    with pytest.raises(ValueError, match="no readable sound"):
        train_causal_codec(SMALL, [torch.empty(0)], seed=0, training=BRIEF)
