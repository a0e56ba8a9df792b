"""Text, token by token, until the model ends the document or leaves text by choosing BOI, BOV or BOA.

Report: §2.1. Ours: control tokens that make no sense inside text are never chosen. Letters: B rows, D width, V ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ernie5.generate.session import Session
from ernie5.model.text_head import EXCLUDED
from ernie5.sequence import Kind, TokenGroups
from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS, SpecialToken
from ernie5.uni_rope import line_coords

LEAVE = (SpecialToken.EOS, SpecialToken.BOI, SpecialToken.BOV, SpecialToken.BOA)


def text_block(
    session: Session, row: int, ids: Sequence[int], audio_target: Tensor | None = None, speaker: Tensor | None = None
) -> TokenGroups:
    """Text positions at the row's running index. `speaker: 1 v` is what a SPEAKER token among them reads."""
    return TokenGroups(
        session.segment[row], Kind.TEXT, torch.arange(len(ids)), line_coords(session.index[row], len(ids)),
        text=torch.tensor(ids), speaker=speaker, audio_target=audio_target,
    )


def generate_text(session: Session, hidden: Tensor, max_tokens: int) -> tuple[list[list[int]], list[int]]:
    """hidden `B D` at the last position of every row -> ids per row, and the control token that ended each (EOS when out of room)."""
    rows = len(hidden)
    texts: list[list[int]] = [[] for _ in range(rows)]
    ended = [-1] * rows
    segment = list(session.segment)
    for _ in range(max_tokens):
        logits = session.model.heads.text(hidden)
        banned = [i for i in range(NUM_SPECIAL_TOKENS) if i not in LEAVE]
        logits[:, banned] = EXCLUDED
        chosen = session.sampling.classes(logits, session.random).tolist()
        for row, token in enumerate(chosen):
            if ended[row] < 0 and token in LEAVE:
                ended[row] = token
            elif ended[row] < 0:
                texts[row].append(token)
        live = [row for row in range(rows) if ended[row] < 0]
        if not live:
            break
        session.segment = list(segment)
        fed = session.feed([[text_block(session, row, [chosen[row]])] if row in live else [] for row in range(rows)])
        hidden = hidden.clone()
        hidden[live] = fed.last(live)[:, 0]
    return texts, [int(SpecialToken.EOS) if e < 0 else e for e in ended]
