"""Your own tokenizer, router, objective, loss on top and training loop around the model: `python library_example.py`.

The classes also work in a recipe, where this file is importable: `model.router: library_example:SoftmaxRouter`.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ernie5.data_pipelines.collate import PackedSample, Widths, collate
from ernie5.data_pipelines.grouping import Coded, Grouping
from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.model.router import Router, Routing
from ernie5.model.router_balance import RouterBalance
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.sequence import Modality, Role
from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.understanding import UnderstandingConfig, UnderstandingEncoder

LINES = ["the small red circle", "the large blue square", "a low tone, then a high tone", "a green circle moves left"]


class ByteTokenizer:
    """Text as UTF-8 bytes after the control tokens."""

    modality, vocab_size, fingerprint = Modality.TEXT, NUM_SPECIAL_TOKENS + 256, "utf-8"

    @classmethod
    def load(cls, folder):
        return cls()

    def encode(self, media):
        return torch.tensor(list(media.encode()), dtype=torch.int64) + NUM_SPECIAL_TOKENS

    def decode(self, codes):
        return bytes(i - NUM_SPECIAL_TOKENS for i in codes.tolist() if i >= NUM_SPECIAL_TOKENS).decode(errors="replace")


class SoftmaxRouter(Router):
    """Gates are a softmax over the chosen experts."""

    def forward(self, x, kind, sub):
        logits = x.float() @ self.weight.float().T                          # T E
        experts = (logits.detach() + self.balance_bias).topk(self.top_k).indices
        return Routing(experts, logits.gather(-1, experts).softmax(dim=-1))


class CalmLoss(NextGroupLoss):
    """The objective, and a penalty on large text logits."""

    def __call__(self, hidden, heads, packed, counts, weights):
        losses = super().__call__(hidden, heads, packed, counts, weights)
        size = heads.text(hidden.text).logsumexp(dim=-1).square().sum() / max(counts.text, 1.0)
        return replace(losses, total=losses.total + 1e-3 * size)


def train(num_steps):
    """Losses of the steps."""
    tokenizer, vocabulary = ByteTokenizer(), Vocabulary(ByteTokenizer.vocab_size, bits=8, num_codebooks=3, codebook_size=16, feature_dim=8)
    config = ModelConfig(dim=32, num_layers=3, num_heads=2, num_kv_heads=2, num_experts=4, router=f"{__name__}:SoftmaxRouter")
    model = UnifiedTransformer(config, vocabulary, UnderstandingEncoder(UnderstandingConfig(), 8, config.dim))
    grouping = Grouping(MultiscaleResidualQuantizer(num_scales=3, bits=8), num_codebooks=3, codebook_size=16)
    documents = [grouping.document([Coded(Modality.TEXT, Role.GENERATE, tokenizer.encode(t))], np.random.default_rng(0)) for t in LINES]
    packed = collate([[PackedSample(t, d)] for t, d in zip(LINES, documents, strict=True)], 48, Widths(8, 3, 8, patch=8))
    space = torch.nn.Linear(config.dim, 1)                                  # my own head: is the next byte a space?
    optimizer = torch.optim.AdamW([*model.parameters(), *space.parameters()], lr=1e-2)
    objective, balance, losses = CalmLoss(), RouterBalance(model, speed=1e-2), []
    for _ in range(num_steps):
        hidden = model(packed)
        loss = objective(hidden, model.heads, packed, TargetCounts.of(packed), Weights()).total
        is_space = (packed.text_target == tokenizer.encode(" ")).float()
        loss = loss + 0.1 * F.binary_cross_entropy_with_logits(space(hidden.text).squeeze(-1), is_space)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        balance.step(hidden.load.sum(dim=1) - hidden.even)
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(*(f"{loss:.3f}" for loss in train(60)[::10]))
