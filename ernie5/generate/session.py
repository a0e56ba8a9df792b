"""A batch of documents that grow group by group, with everything before kept in a key-value cache.

`feed` appends blocks to every row (rows may get different lengths, or nothing) and returns the hidden states of the new positions. The
layers, masks and embeddings are those of training; incremental decoding equals the full forward pass (a test holds it).
Letters: B rows, S new positions, D width, m audio targets, Q codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ernie5.data_pipelines.collate import PackedSample, Widths, collate
from ernie5.generate.choose import ChooseCodes, Sampling
from ernie5.model.attention_mask import Where
from ernie5.model.cache import Cache
from ernie5.model.elastic import FULL, SubModel
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.sequence import TokenGroups
from ernie5.uni_rope import index_after


@dataclass(frozen=True)
class Fed:
    """`hidden: B S D` normed, `size[b]` real positions of row b (first in the row), `codes: m Q` chosen or known audio frames by row."""

    hidden: Tensor
    size: list[int]
    codes: Tensor
    code_rows: list[int]

    def last(self, rows: list[int], count: int = 1) -> Tensor:
        """The last `count` hidden states of some rows: `rows count D`."""
        return torch.stack([self.hidden[r, self.size[r] - count : self.size[r]] for r in rows])


class Session:
    """`rows` documents on one model. `index[b]` is the running text index, `segment` numbers what is generated next."""

    def __init__(
        self, model: UnifiedTransformer, rows: int, widths: Widths, sampling: Sampling, random: torch.Generator, submodel: SubModel = FULL
    ) -> None:
        self.model, self.widths, self.sampling, self.random, self.submodel = model, widths, sampling, random, submodel
        self.cache = Cache.empty(len(model.layers))
        self.index = [0] * rows
        self.groups = [0] * rows
        self.segment = [0] * rows
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def feed(self, blocks: list[list[TokenGroups]]) -> Fed:
        """Append blocks to every row and run them."""
        samples = [PackedSample(str(row), groups) for row, groups in enumerate(blocks)]
        size = [len(sample) for sample in samples]
        packed = collate([[sample] for sample in samples], max(1, *size), self.widths).to(self.device)
        offset = torch.tensor(self.groups, device=self.device)[:, None]
        packed = replace(packed, group=packed.group + offset)
        where = Where.of(packed)
        mask = self.model.mask(where, self.cache.extend(where))
        choose = ChooseCodes(self.model.heads, packed.audio_target, self.sampling, self.random)
        x, _, _ = self.model.trunk(packed, mask, choose, self.submodel, self.cache)
        for row, groups in enumerate(blocks):
            for block in groups:
                self.groups[row] += int(block.group[-1]) + 1
                self.index[row] = max(self.index[row], index_after(block.coords))
                self.segment[row] = max(self.segment[row], block.segment + 1)
        code_rows = (packed.audio_target_at // packed.sample.shape[1]).tolist()
        return Fed(self.model.norm(x), size, choose.targets, code_rows)
