"""Training with everything on: windows, critics, averages, a semantic branch; it resumes bit for bit and outlives bad steps."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ernie5.tokenizers.adversarial import AdversarialConfig
from ernie5.tokenizers.fit import Saves
from ernie5.tokenizers.vision.batches import MediaBatches
from ernie5.tokenizers.vision.causal_autoencoder import CausalAutoencoder
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.scales import ScaleConfig
from ernie5.tokenizers.vision.semantic import SemanticConfig
from ernie5.tokenizers.vision.stage import Stage
from ernie5.tokenizers.vision.train import train_vision_tokenizer
from ernie5.tokenizers.vision.windows import MemoryPool, WindowConfig


class Colours:
    """A teacher that sees the mean colour."""

    dim = 3

    @classmethod
    def load(cls, folder: str) -> "Colours":
        return cls()

    def to(self, device: str) -> "Colours":
        return self

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(pixels, 2)


def media(num: int, t: int, h: int, w: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(num + t)
    return list(torch.randint(0, 256, (num, t, 3, h, w), dtype=torch.uint8, generator=generator))


IMAGES, CLIPS = media(4, 1, 21, 30) + media(3, 1, 40, 16), media(3, 5, 18, 22)
EVERYTHING = VisionTokenizerConfig(
    channels=(8, 16, 32), blocks=(0, 0, 1), bits=6, norm="cell", shortcuts=True, attention=2, scales=ScaleConfig(2, 1.2, "cell"),
    windows=WindowConfig(sizes=((16, 16), (16, 24)), clip_sizes=((16, 16),), zoom=(0.5, 1.0)), warmup_steps=1, image_steps=4,
    image_batch=2, video_steps=3, video_images=2, video_clips=2, accumulate=2, average=0.5, entropy=0.1,
    adversarial=AdversarialConfig(weight=0.1, start=1, ramp=1, feature_matching=0.5, channels=4),
    semantic=SemanticConfig(f"{__name__}:Colours", "x", weight=0.2),
)


class Crash(BaseException):
    """A power cut."""


def test_everything_resumes_bit_for_bit(tmp_path, monkeypatch):
    original, calls = Stage.step, []

    def step(self, number):
        calls.append(number)
        if len(calls) in (4, 7):  # in stage 1, and then in stage 2
            raise Crash
        return original(self, number)

    def train(saves=None):
        return train_vision_tokenizer(EVERYTHING, IMAGES, CLIPS, seed=3, saves=saves)

    monkeypatch.setattr("ernie5.tokenizers.vision.stage.RECOUNTED", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "step", step)
        for _ in range(2):
            with pytest.raises(Crash):
                train(Saves(tmp_path, "x", every=1))
    resumed = train(Saves(tmp_path, "x", every=1))
    assert resumed.fingerprint == train().fingerprint
    resumed.save(tmp_path / "kept")
    loaded = VisionGenerationTokenizer.load(tmp_path / "kept")
    clip = CLIPS[0][..., :16, :16]
    assert loaded.fingerprint == resumed.fingerprint and torch.equal(loaded.encode(clip).latent, resumed.encode(clip).latent)
    assert loaded.quantizer.scales(2, 2) == ((1, 1), (2, 2))


def test_a_trained_tokenizer_is_trained_further(tmp_path):
    quick = replace(EVERYTHING, image_steps=1, video_steps=0, average=0.0, adversarial=AdversarialConfig(), semantic=SemanticConfig())
    first = train_vision_tokenizer(quick, IMAGES, [], seed=0)
    first.save(tmp_path)
    on = replace(quick, start_from=str(tmp_path), image_steps=99)
    assert train_vision_tokenizer(on, IMAGES, [], seed=0).encode(IMAGES[0][..., :16, :16]).latent.equal(
        first.encode(IMAGES[0][..., :16, :16]).latent)
    for clips in ([], CLIPS):
        further = train_vision_tokenizer(replace(on, video_steps=1), IMAGES, clips, seed=0)
        assert further.fingerprint != first.fingerprint and further.config == first.config
    with pytest.raises(ValueError, match="use its sizes"):
        train_vision_tokenizer(replace(on, bits=7), IMAGES, [], seed=0)
    with pytest.raises(ValueError, match="must be the folder of a trained vision tokenizer"):
        train_vision_tokenizer(replace(on, start_from=str(tmp_path / "no")), IMAGES, [], seed=0)


def whole_stage(config: VisionTokenizerConfig, num_steps: int = 9) -> Stage:
    torch.manual_seed(0)
    images = media(3, 1, 16, 16)
    batches = MediaBatches(images, 2, seed=0, purpose="x")
    model = CausalAutoencoder(config.autoencoder.image_model())
    return Stage(config, model, MultiscaleResidualQuantizer(4, config.bits, config.scales), [batches], [1.0], num_steps)


def test_a_step_that_is_not_finite_changes_nothing_at_all():
    stage = whole_stage(replace(EVERYTHING, windows=None))
    assert stage.step(0)["loss"] > 0 and "critic_0" in stage.step(1)
    with torch.no_grad():
        stage.model.to_latent.bias[0] = torch.inf
    before = {name: value.clone() for name, value in stage.tensors().items()}
    assert {"adversary.0.mean_real", "average.to_latent.bias", "semantic.projection.weight"} <= before.keys()
    assert not torch.isfinite(torch.tensor(stage.step(2)["loss"]))
    assert before.keys() == stage.tensors().keys() and all(torch.equal(x, before[name]) for name, x in stage.tensors().items())


def test_averaged_weights_get_statistics_of_their_own():
    stage = whole_stage(replace(EVERYTHING, windows=None, average=0.9), 6)
    for step in range(6):
        stage.step(step)
    average = {name: value.clone() for name, value in stage.parts["average"].named_parameters()}
    assert not torch.equal(average["to_latent.weight"], stage.model.to_latent.weight)
    stage.finish()
    assert all(torch.equal(value, average[name]) for name, value in stage.model.named_parameters())
    pixels = torch.cat([medium for step in range(20) for medium in stage._media(step)])
    latent = stage.model.encode(pixels)
    assert latent.mean((0, 1, 3, 4)).abs().max() < 0.35 and (latent.std((0, 1, 3, 4)) - 1).abs().max() < 0.35


def test_lower_precision_stays_in_the_convolutions():
    config = VisionTokenizerConfig(channels=(8, 16), blocks=(0, 1), bits=4, warmup_steps=1, attention=2)
    exact, rough = whole_stage(config), whole_stage(replace(config, precision="bfloat16"))
    losses = [(exact.step(step)["loss"], rough.step(step)["loss"]) for step in range(8)]
    assert losses[0][0] != losses[0][1]
    assert all(abs(a - b) < 0.05 * a for a, b in losses)
    assert all(x.dtype in (torch.float32, torch.int64) for x in rough.tensors().values())


def test_a_critic_begins_when_it_shall():
    stage = whole_stage(replace(EVERYTHING, windows=None, adversarial=AdversarialConfig(weight=0.1, start=2, channels=4)))
    first = [x.clone() for x in stage.adversaries[0].critic.parameters()]
    for step in range(2):
        assert "critic_0" not in stage.step(step)
    assert all(torch.equal(a, b) for a, b in zip(first, stage.adversaries[0].critic.parameters(), strict=True))
    assert "critic_0" in stage.step(2)
    assert not all(torch.equal(a, b) for a, b in zip(first, stage.adversaries[0].critic.parameters(), strict=True))


def test_windows_train_from_clips_alone_and_refuse_what_cannot_be():
    quick = replace(EVERYTHING, image_steps=1, video_steps=1, adversarial=AdversarialConfig(), semantic=SemanticConfig())
    assert train_vision_tokenizer(quick, [], CLIPS, seed=0).encode(CLIPS[0][..., :16, :16]).latent.isfinite().all()
    with pytest.raises(ValueError, match="windows is null"):
        train_vision_tokenizer(replace(quick, windows=None), MemoryPool(IMAGES), [], seed=0)
    with pytest.raises(ValueError, match="windows.sizes has 20 x 16"):
        replace(quick, windows=WindowConfig(sizes=((20, 16),)))
    with pytest.raises(ValueError, match="average = 1"):
        replace(quick, average=1.0)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sees no GPU here"):
            train_vision_tokenizer(replace(quick, device="cuda"), IMAGES, [], seed=0)


def test_settings_that_came_later_leave_old_fingerprints_alone():
    tokenizer = VisionGenerationTokenizer(GenerationTokenizerConfig())
    for tensor in tokenizer.state_dict().values():
        tensor.fill_(1)
    assert tokenizer.fingerprint == "d2515e06fba3609c"  # of format 1 before there were scale formulas, norms, shortcuts and attention
    other = VisionGenerationTokenizer(GenerationTokenizerConfig(scales=ScaleConfig(2)))
    other.load_state_dict(tokenizer.state_dict())
    assert other.fingerprint != tokenizer.fingerprint
