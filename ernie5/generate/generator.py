"""Prompts of any mix of media -> one new medium each: the whole way from pixels and waveforms to pixels and waveforms.

    prompt segments -> codes -> groups -> session -> text | scales and frames | codec frames -> tokenizer.decode

With guidance every prompt runs twice, the second time without its text.
Letters: B prompts; media `t c h w`, `n`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ernie5.data_pipelines.collate import Widths
from ernie5.data_pipelines.encode import Tokenizers
from ernie5.data_pipelines.grouping import Coded, Grouping
from ernie5.generate.choose import Sampling
from ernie5.generate.picture import generate_picture
from ernie5.generate.session import Session
from ernie5.generate.sound import generate_sound
from ernie5.generate.text import generate_text
from ernie5.model.elastic import FULL, SubModel
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.sequence import Modality, Role, Segment, TokenGroups


@dataclass(frozen=True)
class Bounds:
    """Where generation stops at the latest. `grid`: latent cells of a generated picture."""

    grid: tuple[int, int] = (4, 4)
    text_tokens: int = 64
    latent_frames: int = 8
    codec_frames: int = 32


class Generator:
    """A trained model, its tokenizers and how documents are laid out."""

    def __init__(self, model: UnifiedTransformer, tokenizers: Tokenizers, grouping: Grouping, widths: Widths, bounds: Bounds) -> None:
        self.model, self.tokenizers, self.widths, self.bounds = model, tokenizers, widths, bounds
        self.grouping = replace(grouping, history=replace(grouping.history, flip_max=0.0, frame_drop=0.0))

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[Segment]], to: Modality, sampling: Sampling, seed: int = 0, submodel: SubModel = FULL,
        speakers: Sequence[Tensor | None] = (),
    ) -> list[str] | list[Tensor]:
        """One medium of kind `to` for every prompt: `str`, uint8 `t c h w` or float `n`. Same prompts and seed, same result. `speakers`:
        who speaks in the sound of each prompt (`v`), with and without its text.
        """
        sampling.check()
        self.model.eval()
        if to is Modality.TEXT and sampling.guidance != 1.0:
            raise ValueError(f"guidance = {sampling.guidance} acts on generated images, video and audio; use guidance 1 for text")
        if any(speaker is not None for speaker in speakers):
            self._check_speakers(len(prompts), to, speakers)
        blocks = [self.prompt(prompt) for prompt in prompts]
        if sampling.guidance != 1.0:
            blocks += [self.prompt([s for s in prompt if s.modality is not Modality.TEXT]) for prompt in prompts]
            speakers = [*speakers, *speakers]
        device = next(self.model.parameters()).device
        session = Session(self.model, len(blocks), self.widths, sampling, torch.Generator(device).manual_seed(seed), submodel)
        fed = session.feed(blocks)
        match to:
            case Modality.TEXT:
                texts, _ = generate_text(session, fed.last(list(range(len(blocks))))[:, 0], self.bounds.text_tokens)
                return [self.tokenizers.text.decode(torch.tensor(ids, dtype=torch.int64)) for ids in texts]
            case Modality.AUDIO:
                sounds = generate_sound(session, self.bounds.codec_frames, speakers)[: len(prompts)]
                return [self.tokenizers.audio.decode(codes) for codes in sounds]
            case Modality.IMAGE | Modality.VIDEO:
                totals = generate_picture(session, to, self.tokenizers.vision.quantizer, self.bounds.grid, self.bounds.latent_frames)
                return [self.tokenizers.vision.decode(total) for total in totals[: len(prompts)]]

    def _check_speakers(self, num_prompts: int, to: Modality, speakers: Sequence[Tensor | None]) -> None:
        dim = self.model.vocabulary.speaker_dim
        if to is not Modality.AUDIO or not dim:
            raise ValueError(f"a speaker is for generated sounds of a model with data.speaker.dim above 0; this is {to.value}, dim {dim}")
        sizes = [None if speaker is None else tuple(speaker.shape) for speaker in speakers]
        if len(speakers) != num_prompts or set(sizes) - {None, (dim,)}:
            raise ValueError(f"speakers have shapes {sizes[:8]}, which must be one of ({dim},) for each of {num_prompts} prompts, or None")

    def prompt(self, segments: Sequence[Segment]) -> list[TokenGroups]:
        """Blocks of an open document; media that are not text are read, not predicted."""
        read = [s if s.modality is Modality.TEXT else replace(s, role=Role.UNDERSTAND) for s in segments]
        coded = [Coded.of(s, self.tokenizers.of(s.modality).encode(s.media)) for s in read]
        blocks = self.grouping.document(coded, np.random.default_rng(0), ended=False)
        return [replace(b, text_target=None, vision_target=None, audio_target=None) for b in blocks]
