"""Sound and codes piece by piece, with what the network remembers kept in between; a push of nothing gives nothing.

    encoder   samples wait until they fill a codec frame (80 ms); its codes come at once
    decoder   a frame's sound comes at once, `latency_samples` late: its end waits for the next frame, or for `flush`
`flush` ends the sound (the encoder pads the last frame with silence) and begins anew.
Letters: n samples, f codec frames, Q levels, d latent width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from ernie5.tokenizers.audio.causal_codec import CausalCodec
    from ernie5.tokenizers.audio.causal_network import Past


class StreamEncoder:
    """Sound in pieces -> codes. Memory: the unfinished frame, and the network's left context."""

    def __init__(self, codec: CausalCodec) -> None:
        self.codec = codec
        self.rest, self.past = torch.empty(0), None  # type: Tensor, Past | None

    @torch.no_grad()
    def push(self, sound: Tensor) -> Tensor:
        """Further samples float `n` -> the codes int64 `f Q` of the frames that are complete now."""
        return self.codec.quantizer(self.push_latents(sound)[None]).codes[0].cpu()

    @torch.no_grad()
    def push_latents(self, sound: Tensor) -> Tensor:
        """As `push`, before quantization: float `f d` on the codec's device."""
        check_sound(sound)
        codebooks = self.codec.quantizer.codebooks
        waiting = torch.cat([self.rest.to(codebooks), sound.to(codebooks)])
        whole = len(waiting) // self.codec.config.hop_samples * self.codec.config.hop_samples
        self.rest = waiting[whole:].clone()
        if not whole:
            return codebooks.new_empty(0, codebooks.shape[-1])
        latents, self.past = self.codec.latents(waiting[None, :whole], self.past)
        return latents[0]

    def flush(self) -> Tensor:
        """The codes `f Q` of the frame that was begun, if one was."""
        missing = -len(self.rest) % self.codec.config.hop_samples
        codes = self.push(F.pad(self.rest.new_empty(0), (0, missing)))
        self.rest, self.past = torch.empty(0), None
        return codes


class StreamDecoder:
    """Codes in pieces -> sound. Memory: the network's left context, and the begun end of the sound."""

    def __init__(self, codec: CausalCodec) -> None:
        self.codec = codec
        self.past: Past | None = None

    @torch.no_grad()
    def push(self, codes: Tensor) -> Tensor:
        """Further codes int64 `f q` (the first q <= Q levels) -> float `n` in [-1, 1]: f * hop_samples, less the latency at the start."""
        check_codes(codes, self.codec.num_codebooks, self.codec.codebook_size)
        if not len(codes):
            return torch.empty(0)
        latents = self.codec.quantizer.decode(codes.long().to(self.codec.quantizer.codebooks.device)[None])
        begins, pieces = self.past is None, []
        for piece in latents.split(self.codec.phase.frames_at_once, 1):
            samples, self.past = self.codec.sounds(piece, self.past)
            pieces.append(samples[0])
        return torch.cat(pieces)[self.codec.config.latency_samples if begins else 0:].clamp(-1, 1).cpu()

    @torch.no_grad()
    def flush(self) -> Tensor:
        """The last `latency_samples` of the sound; nothing where nothing was pushed."""
        if self.past is None:
            return torch.empty(0)
        rest, self.past = self.past[-1][-1], None
        return self.codec.spectrogram.last(rest)[0].clamp(-1, 1).cpu()


def check_sound(sound: Tensor) -> None:
    """ValueError for what is no sound float `n`."""
    if sound.ndim != 1 or not sound.is_floating_point():
        raise ValueError(f"sound = {sound.dtype} {tuple(sound.shape)} must be float n; mix stereo down to mono first")


def check_codes(codes: Tensor, num_codebooks: int, codebook_size: int) -> None:
    """ValueError for what are no codes `f q` of such a codec."""
    if codes.ndim != 2 or not 1 <= codes.shape[1] <= num_codebooks or codes.is_floating_point():
        raise ValueError(f"codes = {codes.dtype} {tuple(codes.shape)} must be integers f {num_codebooks}, or the first levels of them")
    if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < codebook_size:
        raise ValueError(f"codes from {int(codes.min())} to {int(codes.max())} must be in 0..{codebook_size - 1}; "
                         "cut a generated sound before its end code")
