"""What positions read: text ids, accumulated vision features, summed audio codes, understanding tokens.

    text: E[id], SPEAKER + W v / rms(v)    vision: W [f, 0] + s_k    audio: sum over levels of E_q[code_q]    understanding: encoder(reads)

Every module runs on every batch; a modality that is absent runs on an empty tensor, so that its gradient is zero and not missing
(decision 26). What lies at B*S, past the end, is on another context rank and is dropped. Report: Fig. 1-3, §2.2-2.3. Ours: learned scale
embedding s_k (as VideoAR), linear map of the accumulated feature.
Letters: B rows, S positions, D width, Q codebooks, d bits, a of them on (f has a channels, decision 8), n positions of one kind.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.sequence import PackedSequence


class ReadEmbeddings(nn.Module):
    """PackedSequence -> x `B S D`; padding reads zeros."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, understanding: nn.Module) -> None:
        super().__init__()
        self.text = nn.Embedding(vocabulary.text, config.dim)
        self.bits = vocabulary.bits
        self.vision = nn.Linear(vocabulary.bits, config.dim)
        self.vision_scale = nn.Embedding(config.max_scales, config.dim)
        self.audio = nn.ModuleList(nn.Embedding(vocabulary.codebook_size, config.dim) for _ in range(vocabulary.num_codebooks))
        self.speaker = nn.Linear(vocabulary.speaker_dim, config.dim, bias=False) if vocabulary.speaker_dim else None
        self.understanding = understanding

    def forward(self, packed: PackedSequence) -> Tensor:
        off = self.bits - packed.vision.shape[1]
        features = F.pad(packed.vision, (0, off)) if off else packed.vision                                           # n d
        vision = self.vision(features.to(self.vision.weight.dtype)) + self.vision_scale(packed.vision_scale)          # n D
        audio = torch.stack([table(packed.audio[:, q]) for q, table in enumerate(self.audio)]).sum(dim=0)             # n D
        positions = [packed.text_at, packed.vision_at, packed.audio_at]
        reads = [self.text(packed.text), vision, audio]
        for batch in packed.understand:
            positions.append(batch.positions)
            reads.append(self.understanding(batch))
        rows, length = packed.sample.shape
        x = torch.zeros(rows * length + 1, self.text.embedding_dim, device=packed.sample.device, dtype=reads[0].dtype)
        x = x.index_copy(0, torch.cat(positions), torch.cat([r.to(x.dtype) for r in reads]))
        if self.speaker is not None:
            speaker = F.rms_norm(packed.speaker, packed.speaker.shape[1:])
            x = x.index_add(0, packed.speaker_at, self.speaker(speaker.to(self.speaker.weight.dtype)).to(x.dtype))
        return x[:-1].unflatten(0, (rows, length))
