"""How fast a model writes: greedy text through the key-value cache, a fixed number of tokens for a batch of rows.

    tokens/s = rows x tokens / seconds after the prompt

What generation costs in the library is all inside: choice, layout of the new position, mask and cache. One warm-up token is not
counted. Speeds compare only when they were taken in turn: `surface` measures every model once a round. Ours.
Letters: B rows, n tokens of a prompt.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ernie5.data_pipelines.collate import Widths
from ernie5.generate.choose import Sampling
from ernie5.generate.session import Session
from ernie5.generate.text import text_block
from ernie5.model.text_head import EXCLUDED
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.sequence import PackedSequence
from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS, SpecialToken

ROWS, PROMPT_TOKENS, TOKENS = 16, 8, 24


def prompts_of(batches: Sequence[PackedSequence], rows: int = ROWS, length: int = PROMPT_TOKENS) -> Tensor:
    """`B n` text ids of held-out documents, without control tokens; they repeat where there are few. ValueError when there is no text."""
    ids = torch.cat([batch.text for batch in batches]) if batches else torch.zeros(0, dtype=torch.int64)
    ids = ids[ids >= NUM_SPECIAL_TOKENS]
    if not len(ids):
        raise ValueError("the held-out sources hold no text to measure decoding with; name one in data.heldout")
    return ids.repeat(-(-rows * length // len(ids)))[: rows * length].view(rows, length)


@torch.no_grad()
def decode_speed(model: UnifiedTransformer, widths: Widths, prompts: Tensor, tokens: int = TOKENS) -> float:
    """Tokens per second of this model on these prompts `B n`."""
    rows, greedy = len(prompts), Sampling(temperature=0.0)
    device = next(model.parameters()).device
    session = Session(model.eval(), rows, widths, greedy, torch.Generator(device))
    fed = session.feed([[text_block(session, row, [int(SpecialToken.BOS), *prompt])] for row, prompt in enumerate(prompts.tolist())])
    hidden = _write(session, fed.last(list(range(rows)))[:, 0], 1)
    _wait(device)
    started = time.perf_counter()
    _write(session, hidden, tokens)
    _wait(device)
    return rows * tokens / (time.perf_counter() - started)


def _write(session: Session, hidden: Tensor, tokens: int) -> Tensor:
    """Write `tokens` words, never ending: hidden `B D` at the last position -> the same after them."""
    rows = list(range(len(hidden)))
    for _ in range(tokens):
        logits = session.model.heads.text(hidden)
        logits[:, :NUM_SPECIAL_TOKENS] = EXCLUDED
        chosen = session.sampling.classes(logits, session.random).tolist()
        hidden = session.feed([[text_block(session, row, [chosen[row]])] for row in rows]).last(rows)[:, 0]
    return hidden


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
