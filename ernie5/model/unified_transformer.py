"""The unified transformer: four modalities in one stream, one stack of sparse layers, three kinds of heads.

    reads -> embeddings -> L x (attention, mixture of experts) -> hidden states at target positions -> heads
                             the top Q layers also emit audio codes, coarse to fine (codec_layers)

`forward` returns hidden states, not logits: the loss applies the heads (chunked, or split over ranks), people call `logits`.
Report: Fig. 1, §2.1. Letters: B rows, S positions, D width, L layers, Q codebooks, R kinds, E experts, m targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ernie5.model.attention_mask import AttentionMask, DenseMask, FlexMask, Where
from ernie5.model.cache import Cache
from ernie5.model.codec_layers import ChooseCode, CodecFeedback, TeacherForcing
from ernie5.model.codec_parallel import ParallelCodes
from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.model.elastic import FULL, Elastic
from ernie5.model.embeddings import ReadEmbeddings
from ernie5.model.heads import Heads
from ernie5.model.init import init_weights
from ernie5.model.layer import UnifiedLayer
from ernie5.model.moe import Routed
from ernie5.model.multi_token import MultiToken
from ernie5.sequence import Kind, PackedSequence
from ernie5.uni_rope import rotation


@dataclass(frozen=True)
class Hidden:
    """Hidden states at the target positions of a batch, in the batch's order, and what the routers did. A stage of a pipeline (stage.py)
    has those of its own layers: text and vision leave the last one.
    """

    text: Tensor | None         # m D
    next_text: Tensor | None    # m' D  for targets with a next target; None without multi-token prediction
    vision: Tensor | None       # m D
    audio: tuple[Tensor, ...]   # levels x [m D], each read after its own layer
    levels: tuple[int, ...]     # of which audio levels: all Q of the whole model
    load: Tensor                # layers R E  choices, executed layers only (multi-token layer last)
    even: Tensor                # layers E    what they would be if spread evenly
    layers: tuple[int, ...]     # which layers these speak of; num_layers = the multi-token layer
    router_loss: Tensor         # the routers' own losses, summed over layers and tokens; 0 where they have none


class UnifiedTransformer(nn.Module):
    """`understanding` is any module `UnderstandBatch -> tokens M D`, read after read."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, understanding: nn.Module, seed: int = 0) -> None:
        super().__init__()
        config.check()
        if config.num_layers < vocabulary.num_codebooks:
            raise ValueError(
                f"model.num_layers = {config.num_layers} must be at least the {vocabulary.num_codebooks} audio codebooks: "
                "each of the top layers emits one code; use more layers or fewer codebooks"
            )
        self.config, self.vocabulary = config, vocabulary
        self.here = tuple(range(config.num_layers))  # a stage of a pipeline has some of the layers
        self.embeddings = ReadEmbeddings(config, vocabulary, understanding)
        self.layers = nn.ModuleList(UnifiedLayer(config) for _ in range(config.num_layers))
        self.codec: CodecFeedback | ParallelCodes
        match config.codec:
            case "depthwise":
                self.codec = CodecFeedback(config, vocabulary)
            case "parallel":
                self.codec = ParallelCodes(config, vocabulary)
        self.norm = nn.RMSNorm(config.dim)
        self.multi_token = MultiToken(config) if config.multi_token else None
        self.heads = Heads(config, vocabulary)
        init_weights(self, seed)

    def forward(self, packed: PackedSequence, submodel: Elastic = FULL) -> Hidden:
        """One pass over whole samples with the true codes fed back."""
        return self.run(packed, self.mask(Where.of(packed), Where.of(packed)), submodel)[1]

    def run(
        self, packed: PackedSequence, mask: AttentionMask, submodel: Elastic = FULL, x: Tensor | None = None
    ) -> tuple[Tensor, Hidden]:
        """The layers that are here -> the stream `B S D` after them, and what left it. `x`: the stream from the stage before."""
        x, audio, routed = self.trunk(packed, mask, TeacherForcing(packed.audio_target), submodel, x=x)
        text = next_text = vision = None
        last = len(self.layers)
        if last - 1 in self.here:
            rows = self.norm(x).flatten(0, 1)
            text, vision = rows.index_select(0, packed.text_target_at), rows.index_select(0, packed.vision_target_at)
            if self.multi_token is not None:
                turn = rotation(packed.coords, self.config.head_dim, self.config.rope_base)
                sub = submodel.layer(last, self.config.num_experts, x.device)
                next_text, routed[last] = self.multi_token(x, packed, self.embeddings.text, turn, mask, sub)
        losses = [r.loss for r in routed.values() if r.loss is not None]
        none = torch.zeros(0, self.config.num_experts, device=x.device)  # a stage may be left out by a sub-model
        return x, Hidden(
            text=text,
            next_text=next_text,
            vision=vision,
            audio=tuple(audio),
            levels=tuple(level for layer in self.here for level in self.codec.levels(layer)),
            load=torch.stack([r.load for r in routed.values()]) if routed else none.long().unsqueeze(1).expand(-1, len(Kind), -1),
            even=torch.stack([r.even for r in routed.values()]) if routed else none.double(),
            layers=tuple(routed),
            router_loss=torch.stack(losses).sum() if losses else x.new_zeros(()),
        )

    def trunk(
        self, packed: PackedSequence, mask: AttentionMask, choose: ChooseCode, submodel: Elastic = FULL, cache: Cache | None = None,
        x: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor], dict[int, Routed]]:
        """Embeddings (where no `x` comes in) and layers -> x `B S D`, audio hidden states, what the router of every executed layer did."""
        turn = rotation(packed.coords, self.config.head_dim, self.config.rope_base)
        x = self.embeddings(packed) if x is None else x
        audio: list[Tensor] = []
        routed: dict[int, Routed] = {}
        for index in self.here:
            if submodel.keeps(index):
                sub = submodel.layer(index, self.config.num_experts, x.device)
                kind = packed.kind if sub.runs is None else packed.kind.masked_fill(~sub.runs, -1)
                y, routed[index] = self.layers[index](x, turn, mask, kind, sub, cache.layers[index] if cache else None)
                x = y if sub.runs is None else torch.where(sub.runs.unsqueeze(-1), y, x)
            for level in self.codec.levels(index):
                hidden = x.flatten(0, 1).index_select(0, packed.audio_target_at)
                audio.append(hidden)
                x = self.codec(x, packed.audio_target_at, level, choose(level, hidden))
        return x, audio, routed

    def mask(self, queries: Where, keys: Where) -> AttentionMask:
        """The next-group mask, as the path that suits the device (`model.attention`)."""
        flex = self.config.attention == "flex" or (self.config.attention == "auto" and queries.sample.is_cuda)
        return (FlexMask if flex else DenseMask).build(queries, keys, self.config.window_frames)

    def logits(self, hidden: Hidden) -> dict[str, Tensor]:
        """text `m V`, vision `m d`, audio `m Q codebook_size + 1`: for people and sampling, not for training."""
        assert hidden.text is not None and hidden.vision is not None
        audio = [self.heads.audio_logits(q, h) for q, h in zip(hidden.levels, hidden.audio, strict=True)]
        return {"text": self.heads.text(hidden.text), "vision": self.heads.vision(hidden.vision), "audio": torch.stack(audio, dim=1)}
