"""The causal audio tokenizer: a waveform as Q codes per 80 ms, at 16 or 24 kHz, of a sound that may still go on.

    encode   sound, padded to whole frames -> spectra -> latents -> quantization -> codes f Q      frame f hears no sample after its own
    decode   codes f q, q <= Q: the first q levels alone -> sum of their vectors -> spectra -> sound
Both are the streams (streams.py) run to their end, so a stream gives what the whole gives, and memory is bounded for any length.
Saved as `config.json` + `weights.safetensors`; `fingerprint` names exactly these two.
Report: §2.3.1 (RVQ at 12.5 Hz). Ours: the network (causal_network.py).
Letters: n samples or items, s samples, f codec frames, t steps, d latent width, Q levels.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ernie5.sequence import Modality
from ernie5.tokenizers.audio.causal_config import CausalCodecConfig, CausalNetworkConfig
from ernie5.tokenizers.audio.causal_network import Decoder, Encoder, Past
from ernie5.tokenizers.audio.causal_phase import ContinuedPhase, LearnedPhase
from ernie5.tokenizers.audio.causal_spectrogram import CausalSpectrogram
from ernie5.tokenizers.audio.codec import CONFIG_FILE, WEIGHTS_FILE, fingerprint_of, load_weights, read_config
from ernie5.tokenizers.audio.residual_quantizer import ResidualQuantizer
from ernie5.tokenizers.audio.streams import StreamDecoder, StreamEncoder

KIND = "causal"
FRAMES_AT_ONCE = 512  # 41 s
DEAD_SHARE = 0.15     # of the mean count: a code that is chosen less often restarts, so that an hour of other sounds uses it too


class CausalCodec(nn.Module):
    """An `AudioTokenizer` (tokenizers/base.py) that streams."""

    modality = Modality.AUDIO

    def __init__(self, config: CausalCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.sample_rate_hz, self.frame_rate_hz = config.sample_rate_hz, config.sample_rate_hz / config.hop_samples
        network = config.network
        self.spectrogram = CausalSpectrogram(network.fft_size, config.hop_samples // network.steps_per_frame, network.floor)
        self.encoder, self.decoder = Encoder(network, self.spectrogram), Decoder(network, self.spectrogram)
        self.phase = (ContinuedPhase(self.spectrogram, network.phase_iterations) if network.phase == "continued"
                      else LearnedPhase(self.spectrogram, network.dim))
        self.quantizer = ResidualQuantizer(config.num_codebooks, config.codebook_size, network.latent_dim, dead_share=DEAD_SHARE)

    def encode(self, media: Tensor) -> Tensor:
        """Sound float `n` at `sample_rate_hz` -> codes int64 `f Q`, f = ceil(n / hop_samples)."""
        stream = self.stream_encoder()
        pieces = media.split(FRAMES_AT_ONCE * self.config.hop_samples) if media.ndim == 1 else [media]  # push refuses the latter
        return torch.cat([*[stream.push(piece) for piece in pieces], stream.flush()])

    def decode(self, codes: Tensor) -> Tensor:
        """Codes int64 `f q`, q <= Q -> sound float `n` in [-1, 1], n = f * hop_samples."""
        stream = self.stream_decoder()
        return torch.cat([stream.push(codes), stream.flush()])

    def stream_encoder(self) -> StreamEncoder:
        """Sound in any pieces -> codes of every frame as soon as its last sample is there."""
        return StreamEncoder(self)

    def stream_decoder(self) -> StreamDecoder:
        """Codes of any number of frames at a time -> sound, `config.latency_samples` late."""
        return StreamDecoder(self)

    def latents(self, sounds: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """float `n s` of whole codec frames -> `n f d`, and what is remembered for the sound that follows."""
        past_samples, past_encoder = past or (None, None)
        spectra, past_samples = self.spectrogram.spectra(sounds, past_samples)
        latents, past_encoder = self.encoder(spectra, past_encoder)
        return latents, [past_samples, past_encoder]

    def sounds(self, latents: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """`n f d` -> the samples float `n s` that are complete by now, `latency_samples` late, and what is remembered (at its end: the
        begun rest).
        """
        past_decoder, past_phase = past or (None, None)
        features, compressed, past_decoder = self.decoder(latents, past_decoder)
        samples, past_phase = self.phase(features, compressed, past_phase)
        return samples, [past_decoder, past_phase]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over configuration and weights."""
        return fingerprint_of(asdict(self.config), self.state_dict())

    def save(self, folder: Path | str) -> None:
        """Write both files into `folder`, made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps({"kind": KIND, **asdict(self.config)}, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> CausalCodec:
        """What `save` wrote. ValueError where a file is missing or made for another version."""
        usual = asdict(CausalCodecConfig())
        values = read_config(folder, {"kind", *usual})
        if set(values["network"]) != set(usual["network"]):
            raise ValueError(f"{Path(folder) / CONFIG_FILE} has other keys in network than this version: "
                             f"{', '.join(sorted(set(values['network']) ^ set(usual['network'])))}; train the codec again")
        network = CausalNetworkConfig(**values.pop("network"))
        codec = cls(CausalCodecConfig(**{name: value for name, value in values.items() if name != "kind"}, network=network))
        load_weights(codec, folder)
        return codec.eval()
