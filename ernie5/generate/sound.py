"""Sounds: one codec frame a pass; its codes leave the top layers coarse to fine, each fed back before the next is chosen.

Report: §2.3.2, Fig. 3. Letters: B rows, F frames, Q codebooks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ernie5.generate.session import Session
from ernie5.generate.text import text_block
from ernie5.sequence import Kind, TokenGroups
from ernie5.tokenizers.special_tokens import SpecialToken
from ernie5.uni_rope import line_coords


def generate_sound(session: Session, max_frames: int, speakers: Sequence[Tensor | None] = ()) -> list[Tensor]:
    """Append one sound to every row, spoken by `speakers` (`v` each; none for a row, or for all, where it does not matter); returns codes
    `F Q` per row (F may be 0: a model that ends at once).
    """
    rows = len(session.index)
    speakers = speakers or [None] * rows
    vocabulary = session.model.vocabulary
    unknown = torch.full((1, vocabulary.num_codebooks), -1)
    begins = [[SpecialToken.BOA] if speaker is None else [SpecialToken.SPEAKER, SpecialToken.BOA] for speaker in speakers]
    vectors = [None if speaker is None else speaker[None] for speaker in speakers]
    fed = session.feed([[text_block(session, row, begins[row], unknown, vectors[row])] for row in range(rows)])
    segment = [number - 1 for number in session.segment]
    sounds: list[list[Tensor]] = [[] for _ in range(rows)]
    for frame in range(max_frames + 1):
        blocks: list[list[TokenGroups]] = [[] for _ in range(rows)]
        for row, codes in zip(fed.code_rows, fed.codes.cpu(), strict=True):
            if int(codes[0]) == vocabulary.codebook_size or frame == max_frames:
                continue
            sounds[row].append(codes)
            group, coords = torch.zeros(1, dtype=torch.int64), line_coords(session.index[row], 1)
            blocks[row] = [TokenGroups(segment[row], Kind.AUDIO_GENERATE, group, coords, audio=codes[None], audio_target=unknown)]
        if not any(blocks):
            break
        fed = session.feed(blocks)
    session.feed([[text_block(session, row, [SpecialToken.EOA])] for row in range(rows)])
    return [torch.stack(row) if row else torch.zeros(0, vocabulary.num_codebooks, dtype=torch.int64) for row in sounds]
