"""What a recipe says of its tokenizers: sizes and training of each, and where others come from (`tokenizers:`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ernie5.config_yaml import ConfigError, Located, Raw
from ernie5.tokenizers.audio.causal_config import CausalCodecConfig, CausalNetworkConfig
from ernie5.tokenizers.audio.causal_training import CausalTraining
from ernie5.tokenizers.audio.codec import AudioCodecConfig
from ernie5.tokenizers.audio.train import AudioCodecTraining
from ernie5.tokenizers.remote.address import Address, parse_addresses
from ernie5.tokenizers.text_training import TextTraining
from ernie5.tokenizers.vision.config import VisionTokenizerConfig


@dataclass(frozen=True)
class TextTokenizerConfig:
    """Byte-pair encoding over UTF-16BE; a small corpus may give fewer tokens than `vocab_size`."""

    vocab_size: int = 512
    training: TextTraining = TextTraining()


@dataclass(frozen=True)
class AudioTokenizerConfig:
    """What the audio codec is, and how it is trained. `codec` says what its codes are (levels, sizes, rates), whatever the kind, and the
    sizes of the spectral network; `causal` those of the causal one, which streams and takes recordings of any length.
    """

    kind: Literal["spectral", "causal"] = "spectral"
    codec: AudioCodecConfig = AudioCodecConfig()
    training: AudioCodecTraining = AudioCodecTraining()
    causal: CausalNetworkConfig = CausalNetworkConfig()
    causal_training: CausalTraining = CausalTraining()

    @property
    def causal_codec(self) -> CausalCodecConfig:
        """The codec of the kind `causal`."""
        codec = self.codec
        return CausalCodecConfig(codec.num_codebooks, codec.codebook_size, codec.sample_rate_hz, codec.hop_samples, self.causal)


@dataclass(frozen=True)
class PartConfig:
    """Your own tokenizer: `part` is `module:Class`, made by `Class.load(folder)`; it is not trained here."""

    part: str
    folder: str = ""


@dataclass(frozen=True)
class TokenizersConfig:
    """Sizes and training of the tokenizers. `max_media` bounds how many media of a kind they are trained on; `side_by_side` trains vision
    and audio in two processes at once; every `checkpoint_every` steps their training is saved (0: only when it is stopped); `parts`
    replaces `text`, `vision` or `audio` by your own; `services` says where others are served (`ernie5 tokenizer serve`), also written
    `vision: tcp://host:port`. `service_wait_s`: how long a run waits for one that is away.
    """

    text: TextTokenizerConfig = TextTokenizerConfig()
    vision: VisionTokenizerConfig = VisionTokenizerConfig()
    audio: AudioTokenizerConfig = AudioTokenizerConfig()
    max_media: int = 4096
    side_by_side: bool = True
    checkpoint_every: int = 500
    parts: dict[str, PartConfig] = field(default_factory=dict)
    services: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    service_wait_s: float = 300.0

    @classmethod
    def written_short(cls, given: dict[str, Located]) -> dict[str, Located]:
        """`vision: tcp://host:port` where `vision` is a map of sizes else: the same as `services: {vision: tcp://host:port}`."""
        short = {kind: given[kind] for kind in ("text", "vision", "audio") if kind in given and _is_address(given[kind])}
        if not short:
            return given
        services = given.get("services", Located({}, next(iter(short.values())).where))
        if not isinstance(services.value, dict) or services.value.keys() & short.keys():
            raise ConfigError(f"{services.where}: tokenizers.services must be a map that does not name {', '.join(short)} again")
        rest = {key: value for key, value in given.items() if key not in short}
        return rest | {"services": Located(services.value | short, services.where)}

    def addresses(self, kind: str) -> tuple[Address, ...]:
        """The replicas that serve a kind; none where it is not served. ValueError names what is wrong."""
        return parse_addresses(f"tokenizers.services.{kind}", self.services[kind]) if kind in self.services else ()

    def check(self) -> None:
        """Raise ValueError for services that cannot be."""
        for kind in self.services:
            if kind not in ("text", "vision", "audio"):
                raise ValueError(f"tokenizers.services.{kind} is no kind of tokenizer; use text, vision or audio, and write several "
                                 "addresses as a list, or in quotes with commas")
            if kind in self.parts:
                raise ValueError(f"tokenizers.services.{kind} and tokenizers.parts.{kind} are two tokenizers for one kind; remove one")
            self.addresses(kind)
        if not 0 < self.service_wait_s < float("inf"):
            raise ValueError(f"tokenizers.service_wait_s = {self.service_wait_s} is a number of seconds above 0; use 300")


def _is_address(located: Located) -> bool:
    """Anything but a map and nothing at all."""
    value = located.value.text if isinstance(located.value, Raw) else located.value
    return (isinstance(value, str) and "://" in value) or isinstance(value, list)
