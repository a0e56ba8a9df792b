"""Training of the vision tokenizer: pictures in 2-D first, then the inflated causal 3-D model on pictures and clips together.

    media in memory, all of few shapes (`windows` null), or pools of media of any size, read when drawn (windows.py); the loss: stage.py

Every draw is a function of (seed, step): the same arguments give the same tokenizer on the same machine and thread count.
Report: §2.2.1 (two steps, inflation). Ours: the schedule.
Letters: t frames, c channels, h w pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ernie5.run.random_streams import torch_generator
from ernie5.tokenizers.fit import Saves, fit
from ernie5.tokenizers.vision.batches import MediaBatches
from ernie5.tokenizers.vision.causal_autoencoder import CausalAutoencoder, inflate
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer, check_media
from ernie5.tokenizers.vision.scales import scale_schedule
from ernie5.tokenizers.vision.stage import Batches, Stage
from ernie5.tokenizers.vision.windows import FirstFrames, MediaPool, MemoryPool, WindowBatches

NUM_FEATURE_PICTURES = 512  # give the mean and deviation of every feature channel
NUM_FEATURE_WINDOWS = 64    # the same, of windows: they are larger
IMAGES, IMAGES_BESIDE, CLIPS = "vision tokenizer images", "vision tokenizer images beside clips", "vision tokenizer clips"


def train_vision_tokenizer(
    config: VisionTokenizerConfig, images: Sequence[Tensor] | MediaPool, clips: Sequence[Tensor] | MediaPool, *, seed: int,
    title: str = "vision tokenizer", saves: Saves | None = None,
) -> VisionGenerationTokenizer:
    """images: uint8 `1 c h w`, clips: uint8 `t c h w`; with `config.windows` of any size, or pools. Without images, stage 1 sees frames of
    clips; without clips, stage 2 is left out, or goes on with pictures alone from `config.start_from`.

    Without either, the tokenizer is returned untrained, on the CPU. With `saves`, an interrupted training goes on exactly. ValueError for
    media that the strides do not divide.
    """
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"tokenizers.vision.device = {config.device}, but torch sees no GPU here; use cpu, or a machine with one")
    data = _Windows(config, _pool(images), _pool(clips), seed) if config.windows else _Whole(config, images, clips, seed)
    sizes = GenerationTokenizerConfig(config.autoencoder, data.num_scales(), config.scales)
    if config.start_from:
        tokenizer = _trained(config.start_from, sizes)
    else:
        with torch.random.fork_rng(devices=[]):  # layers draw their start weights from torch's global stream
            torch.manual_seed(torch_generator(seed, "vision tokenizer weights").initial_seed())
            image = CausalAutoencoder(config.autoencoder.image_model())
            tokenizer = VisionGenerationTokenizer(sizes)
        if data.any_pictures:
            batches = [data.pictures(IMAGES, config.image_batch)]
            stage = Stage(config, image, tokenizer.quantizer, batches, [1.0], config.image_steps, seed)
            fit(stage, f"{title}, images", saves and saves.stage("images"))
            stage.finish(None if data.any_clips else data.more())
        inflate(image, tokenizer.autoencoder)
    if data.any_clips or (config.start_from and data.any_pictures):
        batches, shares = [data.pictures(IMAGES_BESIDE, config.video_images)], [1.0]
        if data.any_clips:
            batches, shares = [*batches, data.clips(CLIPS, config.video_clips)], [1 - config.clip_share, config.clip_share]
        stage = Stage(config, tokenizer.autoencoder, tokenizer.quantizer, batches, shares, config.video_steps, seed)
        fit(stage, f"{title}, clips", saves and saves.stage("clips"))
        stage.finish(data.more())
    tokenizer.eval().requires_grad_(False).to(config.device)
    if data.any_pictures:
        tokenizer.standardise_features(data.feature_pictures())
    return tokenizer.cpu()


def _trained(folder: str, sizes: GenerationTokenizerConfig) -> VisionGenerationTokenizer:
    """The tokenizer to go on from. ValueError when it has other sizes."""
    try:
        tokenizer = VisionGenerationTokenizer.load(folder)
    except OSError as error:
        raise ValueError(f"tokenizers.vision.start_from = {folder} must be the folder of a trained vision tokenizer: {error}") from error
    found = tokenizer.config
    if (found.autoencoder, found.scales) != (sizes.autoencoder, sizes.scales) or found.num_scales < sizes.num_scales:
        raise ValueError(f"tokenizers.vision.start_from = {folder} has {found}, which must be {sizes}; use its sizes and windows no larger")
    return tokenizer


def _pool(media: Sequence[Tensor] | MediaPool) -> MediaPool:
    return MemoryPool(media) if isinstance(media, Sequence) else media


class _Whole:
    """Media in memory, as they are."""

    def __init__(self, config: VisionTokenizerConfig, images: Sequence[Tensor] | MediaPool, clips: Sequence[Tensor] | MediaPool,
                 seed: int) -> None:
        if not isinstance(images, Sequence) or not isinstance(clips, Sequence):
            raise ValueError("windows is null, which takes media in memory; set windows to train on media that are read when drawn")
        for medium in (*images, *clips):
            check_media(medium, config.autoencoder)
        self.config, self.seed, self._clips, self._images = config, seed, clips, images
        self._pictures = list(images) or [frame[None] for clip in clips for frame in clip[:: config.temporal_stride]]
        self.any_pictures, self.any_clips = bool(self._pictures), bool(clips)

    def pictures(self, purpose: str, batch: int) -> Batches:
        return MediaBatches(self._pictures, batch, seed=self.seed, purpose=purpose)

    def clips(self, purpose: str, batch: int) -> Batches:
        return MediaBatches(self._clips, batch, seed=self.seed, purpose=purpose)

    def more(self) -> None:
        """There are no other sizes."""

    def feature_pictures(self) -> list[Tensor]:
        return self._pictures[:NUM_FEATURE_PICTURES]

    def num_scales(self) -> int:
        return _num_scales(self.config, [tuple(m.shape[-2:]) for m in (*self._images, *self._clips)])


class _Windows:
    """Windows of media that are read when drawn."""

    def __init__(self, config: VisionTokenizerConfig, images: MediaPool, clips: MediaPool, seed: int) -> None:
        assert config.windows
        self.config, self.windows, self.seed, self._clips = config, config.windows, seed, clips
        self._images: MediaPool = images if len(images) else FirstFrames(clips)
        self.any_pictures, self.any_clips = bool(len(self._images)), bool(len(clips))

    def pictures(self, purpose: str, batch: int) -> WindowBatches:
        return WindowBatches(self._images, self.windows, self.windows.sizes, batch, seed=self.seed, purpose=purpose)

    def clips(self, purpose: str, batch: int) -> WindowBatches:
        return WindowBatches(self._clips, self.windows, self.windows.clip_sizes, batch, seed=self.seed, purpose=purpose)

    def more(self) -> WindowBatches | None:
        sizes = self.windows.more_sizes
        return WindowBatches(self._images, self.windows, sizes, 4, seed=self.seed, purpose="vision tokenizer bits") if sizes else None

    def feature_pictures(self) -> list[Tensor]:
        batches = self.pictures("vision tokenizer features", 8)
        return [picture for step in range(NUM_FEATURE_WINDOWS // 8) for picture in batches.draw(step)]

    def num_scales(self) -> int:
        return _num_scales(self.config, [*self.windows.sizes, *self.windows.clip_sizes, *self.windows.more_sizes])


def _num_scales(config: VisionTokenizerConfig, sizes: Iterable[tuple[int, ...]]) -> int:
    """Scales of the largest latent grid (of a 4 x 4 grid if there are no media)."""
    grids = [(height // config.autoencoder.stride, width // config.autoencoder.stride) for height, width in sizes] or [(4, 4)]
    return max(len(scale_schedule(*grid, config.scales)) for grid in grids)
