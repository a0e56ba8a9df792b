"""The tree of all settings: what a YAML recipe may say, with its defaults, and the rules that cross its branches.

    defaults < `base:` file < recipe < command line          (config.py reads it; `Recipe.check` holds it together)

Paths of sources may begin with `demo:` (the run's own demo world), e.g. `demo:train/image`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ernie5.data_pipelines.augment import AugmentConfig
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.roles import RolesConfig
from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.data_pipelines.speaker import SpeakerConfig
from ernie5.data_pipelines.synthetic.demo import DemoConfig
from ernie5.model.config import ModelConfig
from ernie5.model.elastic_space import ElasticConfig
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.workload import Workload
from ernie5.tokenizers.settings import TokenizersConfig
from ernie5.tokenizers.vision.understanding import UnderstandingConfig
from ernie5.train.bit_growth import check_growth
from ernie5.train.steps import StageConfig, TrainConfig

DEMO = "demo:"
DEMO_KINDS = ("image", "video", "audio", "text", "document")
HELDOUT_KINDS = ("image", "video", "audio", "text")


@dataclass(frozen=True)
class RunConfig:
    """`dir` is the run folder (default runs/NAME). `tokenizers`: another run's folder whose tokenizers and demo shards are used.
    `start_from`: RUN_DIR or RUN_DIR@STEP to begin with, taking `all` of its state or only its `weights`.
    """

    name: str = "run"
    dir: str | None = None
    seed: int = 0
    tokenizers: str | None = None
    start_from: str | None = None
    start_load: Literal["all", "weights"] = "weights"

    @property
    def folder(self) -> str:
        return self.dir or f"runs/{self.name}"


@dataclass(frozen=True)
class DataConfig:
    """`tolerance`: the share of damaged samples that is skipped before the run stops. `prompt_weight`: loss weight of text that
    conditions a generated medium. `encode_ahead`: corpora of up to this many samples are encoded before the first step. `heldout`:
    sources that measure the loss, by name.
    `temperature`: weights of sources are multiplied by size ^ (1 / temperature); null = weights alone. `workers`: processes that read,
    decode and encode ahead, per trainer; they change no batch. `pack_window`: up to this many samples wait while rows are filled by best
    fit and balanced in cost; 0 = first fit. `augment`: other views of a sample in every draw; held-out data has none. `text_dropout`: the
    share of merges of the text tokenizer that is left out, other ones in every draw (0 = off, 0.1 is usual); never in held-out data.
    """

    demo: DemoConfig = DemoConfig()
    sources: dict[str, SourceConfig] = field(default_factory=lambda: {k: SourceConfig(f"{DEMO}train/{k}") for k in DEMO_KINDS})
    heldout: dict[str, SourceConfig] = field(default_factory=lambda: {k: SourceConfig(f"{DEMO}heldout/{k}") for k in HELDOUT_KINDS})
    limits: MediaLimits = MediaLimits()
    roles: RolesConfig = RolesConfig()
    augment: AugmentConfig = AugmentConfig()
    text_dropout: float = 0.0
    history: HistoryConfig = HistoryConfig()
    speaker: SpeakerConfig = SpeakerConfig()
    prompt_weight: float = 0.3
    tolerance: float = 0.01
    cache_gib: float = 1.0
    encode_ahead: int = 20_000
    temperature: float | None = None
    workers: int = 0
    pack_window: int = 0

    def check(self, stages: tuple[StageConfig, ...]) -> None:
        """Raise ValueError for what no stream can be made of."""
        for key in ("workers", "pack_window"):
            if getattr(self, key) < 0:
                raise ValueError(f"data.{key} = {getattr(self, key)} is a number of things; use 0 or more")
        if not 0 <= self.text_dropout < 1:
            raise ValueError(f"data.text_dropout = {self.text_dropout} must be at least 0 (off) and below 1; 0.1 is usual")
        for where, value in (("data", self.temperature), *((f"train.stages[{i}]", s.temperature) for i, s in enumerate(stages))):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{where}.temperature = {value} must be above 0: 1 draws by size, larger values more evenly")
        for number, stage in enumerate(stages):
            for name in stage.weights.keys() - self.sources.keys():
                raise ValueError(f"train.stages[{number}].weights names {name!r}, which is no source; use {', '.join(self.sources)}")

    @property
    def uses_demo(self) -> bool:
        return any(s.path.startswith(DEMO) for s in (*self.sources.values(), *self.heldout.values()))

    @property
    def native(self) -> tuple[str, ...]:
        """Sources of training whose images keep their own sizes."""
        return tuple(name for name, source in self.sources.items() if source.native)

    def check_native(self, unit: int, length: int) -> None:
        """ValueError where the largest image of a source that is native would have no token, or more than a row of `length`."""
        pixels, tokens = self.limits.native_pixels, self.limits.native_pixels // unit**2
        for name in self.native:
            if not 1 <= tokens <= length - 4:
                raise ValueError(f"data.limits.native_pixels = {pixels} lets an image of data.sources.{name} have {tokens} tokens of "
                                 f"{unit} x {unit} pixels, which must be 1 to train.length - 4 = {length - 4}; use for example "
                                 f"{min(512, length - 4) * unit**2}")


@dataclass(frozen=True)
class EvaluateConfig:
    """`num_samples` prompts per direction (`num_clips` for video); guidance 1 = off; without `media` the held-out loss alone."""

    num_samples: int = 200
    num_clips: int = 200
    batch: int = 64
    temperature: float = 0.7
    guidance: float = 1.0
    at_end: bool = True
    media: bool = True


@dataclass(frozen=True)
class LogConfig:
    """wandb off, or into the run folder (offline), or to its server (online)."""

    wandb: Literal["off", "offline", "online"] = "off"
    wandb_project: str = "ernie5"


@dataclass(frozen=True)
class Recipe:
    """One run."""

    run: RunConfig = RunConfig()
    data: DataConfig = field(default_factory=DataConfig)
    tokenizers: TokenizersConfig = field(default_factory=TokenizersConfig)
    understanding: UnderstandingConfig = UnderstandingConfig()
    model: ModelConfig = ModelConfig()
    elastic: ElasticConfig = ElasticConfig()
    train: TrainConfig = TrainConfig()
    parallel: ParallelPlan = ParallelPlan()
    evaluate: EvaluateConfig = EvaluateConfig()
    log: LogConfig = LogConfig()

    def check(self, world_size: int | None = None) -> None:
        """Every rule that crosses branches; ValueError names key, value, rule and way out. `world_size`: processes that will run it; None =
        not known, so the fewest that its plan allows.
        """
        self.model.check()
        self.train.check()
        self.data.roles.check()
        self.data.check(self.train.stages)
        self.tokenizers.check()
        if not {"vision"} & {*self.tokenizers.parts, *self.tokenizers.services}:
            if self.run.tokenizers is None:  # else it is the other run's tokenizer that counts, and it is asked when it is there
                check_growth(self.train, self.tokenizers.vision.bits, self.tokenizers.vision.bit_series)
            self.data.augment.check(self.data.limits.image_size, self.tokenizers.vision.autoencoder.stride)
        self.data.check_native(self.understanding.unit, min([self.train.length, *(s.length for s in self.train.stages if s.length)]))
        if "audio" not in self.tokenizers.services:
            if self.tokenizers.audio.kind == "causal":
                _ = self.tokenizers.audio.causal_codec  # sizes are checked there
            self.check_levels(self.tokenizers.audio.codec.num_codebooks)
        for workload in self.workloads():
            self.parallel.check(self.parallel.smallest_world() if world_size is None else world_size, workload)
        if not self.data.sources:
            raise ValueError("data.sources is empty; name at least one source, for example image: {path: demo:train/image}")
        if self.evaluate.guidance != 1.0 and self.data.roles.condition_drop == 0:
            raise ValueError(
                f"evaluate.guidance = {self.evaluate.guidance} needs a model that also learns without its prompt; "
                "use data.roles.condition_drop = 0.1 or evaluate.guidance = 1"
            )

    def check_levels(self, levels: int) -> None:
        """Raise ValueError for a model that has no layers for so many codes of an audio frame."""
        if self.model.num_layers < levels:
            raise ValueError(f"model.num_layers = {self.model.num_layers} must be at least tokenizers.audio.codec.num_codebooks = {levels}")
        self.elastic.check(self.model, levels)

    def workloads(self) -> list[Workload]:
        """What a plan has to carry in each of the run's stages."""
        shapes, rows, length = [(self.train.rows, self.train.length)], self.train.rows, self.train.length
        for stage in self.train.stages:
            rows, length = stage.rows or rows, stage.length or length
            shapes.append((rows, length))
        own = self.train.objective != TrainConfig().objective
        return [Workload(self.model, self.elastic, rows, length, self.train.micro_rows, own, self.train.ramp_steps > 0)
                for rows, length in dict.fromkeys(shapes)]
