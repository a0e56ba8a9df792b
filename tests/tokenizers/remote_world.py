"""Small tokenizers behind real services in this process, for the tests of remote tokenizers."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from ernie5.sequence import Modality
from ernie5.tokenizers.audio.codec import AudioCodec, AudioCodecConfig
from ernie5.tokenizers.remote.address import Address
from ernie5.tokenizers.remote.server import Server, ServerConfig
from ernie5.tokenizers.text import Utf16Tokenizer
from ernie5.tokenizers.text_training import train_text_tokenizer
from ernie5.tokenizers.vision.causal_autoencoder import AutoencoderConfig
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer

TOKEN = b"a token that is long enough"
ANY = Address("127.0.0.1", 0)


def text_tokenizer() -> Utf16Tokenizer:
    return train_text_tokenizer(["a small red circle and a big blue square", "über die Brücke", "한국어 텍스트"] * 4, 300)


def vision_tokenizer(seed: int = 0) -> VisionGenerationTokenizer:
    torch.manual_seed(seed)
    tokenizer = VisionGenerationTokenizer(GenerationTokenizerConfig(AutoencoderConfig(channels=(8, 8, 16), blocks=(0, 0, 0), bits=4)))
    tokenizer.quantizer.levels.mean.normal_()
    return tokenizer


def audio_codec() -> AudioCodec:
    return AudioCodec(AudioCodecConfig(codebook_size=16, dim=8, frame_dim=16, num_blocks=0, latent_dim=8, phase_iterations=1)).eval()


class Odd:
    """An audio tokenizer whose media say what it does."""

    modality = Modality.AUDIO
    num_codebooks, codebook_size, sample_rate_hz, frame_rate_hz = 1, 4, 16_000, 12.5
    fingerprint = "0123456789abcdef"

    def __init__(self) -> None:
        self.asked: list[float] = []

    def encode(self, media: Tensor) -> Tensor:
        self.asked.append(float(media[0]))
        if media[0] == 1:
            raise ValueError("this sound is damaged")
        if media[0] == 2:
            raise KeyError("a bug")
        return torch.full((1, 1), int(media[0]))

    def decode(self, codes: Tensor) -> str:
        return "no sound"


@contextmanager
def serving(tokenizers: dict, address: Address = ANY, token: bytes | None = None, config: ServerConfig | None = None) -> Iterator[Server]:
    """A service until the block ends; nothing may be left of it."""
    config = config or ServerConfig()
    server = Server(tokenizers, address, token, config)
    try:
        yield server
    finally:
        server.close()
        assert server.num_clients == 0 and server.room.left == 4 * config.payload_bytes


def cut(server: Server) -> None:
    """End all its connections, as when its process is killed."""
    with server.lock:
        wires = list(server.clients)
    for wire in wires:
        with suppress(OSError):  # one that has ended by itself
            wire.socket.shutdown(socket.SHUT_RDWR)


def knock(server: Server) -> socket.socket:
    """A bare connection."""
    return socket.create_connection(("127.0.0.1", server.address.port), 5)


def warned(caplog, words: str) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and words in r.getMessage()]


def wait_until(true) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def sound(value: float) -> torch.Tensor:
    return torch.tensor([value])
