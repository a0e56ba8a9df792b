"""Modality-isolated experts, the alternative to the shared router: text, vision and audio each have a pool of experts to themselves.

    chosen = top-k of (s + b) over the pool of the token's modality;     pools: E/3 text, E/3 audio, the rest vision (image and video)

`model.router: ernie5.model.router_isolated:IsolatedRouter`. Scores, gates and loss-free balance are those of the shared router; balance
evens out inside each pool. Control tokens are text. Only text leaves the multi-token layer, so its other two pools stay untrained.
Source: ERNIE 4.5 (separate text and vision experts); Report: §2.1, §6.4.1 contrast themselves with it. Ours: equal pools, one for audio.
Letters: T tokens, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubLayer
from ernie5.model.router import Router
from ernie5.sequence import Kind

POOLS = ("text", "vision", "audio")
POOL_OF = {
    Kind.TEXT: 0,
    Kind.IMAGE_UNDERSTAND: 1, Kind.VIDEO_UNDERSTAND: 1, Kind.IMAGE_GENERATE: 1, Kind.VIDEO_GENERATE: 1,
    Kind.AUDIO_UNDERSTAND: 2, Kind.AUDIO_GENERATE: 2,
}


def pool_sizes(num_experts: int) -> tuple[int, int, int]:
    """Experts of text, vision and audio."""
    third = num_experts // len(POOLS)
    return third, num_experts - 2 * third, third


class IsolatedRouter(Router):
    """`pool: E` says which pool an expert belongs to; it is saved, so that a sub-model cut out of this one keeps its experts' pools."""

    pool: Tensor
    pool_of_kind: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        sizes = pool_sizes(config.num_experts)
        if min(sizes) < config.top_k:
            raise ValueError(
                f"model.router = IsolatedRouter splits model.num_experts = {config.num_experts} into {', '.join(map(str, sizes))} (text, "
                f"vision, audio), and each must hold at least model.top_k = {config.top_k}; use model.num_experts >= {3 * config.top_k}"
                + (f" or model.top_k <= {min(sizes)}" if min(sizes) else "")
            )
        self.register_buffer("pool", torch.repeat_interleave(torch.arange(len(POOLS)), torch.tensor(sizes), output_size=config.num_experts))
        self.register_buffer("pool_of_kind", torch.tensor([POOL_OF[kind] for kind in Kind]), persistent=False)
        self.register_load_state_dict_post_hook(_check_pools)

    def reach(self, kind: Tensor, sub: SubLayer) -> Tensor:
        """The live experts of every token's own pool, bool `T E`; padding (kind -1) may go anywhere.

        ValueError when a sub-model keeps fewer experts of a pool than a token of that pool chooses.
        """
        within = (self.pool == self.pool_of_kind[kind].unsqueeze(-1)) | (kind < 0).unsqueeze(-1)
        if sub.live is None:
            return within
        within = within & sub.live
        wanted = torch.as_tensor(self.top_k if sub.top_k is None else sub.top_k, device=kind.device)
        short = within.sum(dim=-1) < (wanted if sub.used is None else wanted.minimum(sub.used))
        if bool(short.any()):
            lacking = POOLS[int(self.pool_of_kind[kind[short][0]])]
            raise ValueError(
                f"a sub-model keeps {int(within[short][0].sum())} of the {lacking} experts, fewer than a token chooses (model.router = "
                "IsolatedRouter); keep equally many of every pool: model.num_experts a multiple of 3, elastic.expert_blocks = 3, "
                f"elastic.width.sizes of at least {3 * self.top_k}; or use elastic.width.probability = 0"
            )
        return within


def _check_pools(router: IsolatedRouter, incompatible: object) -> None:
    """After loading: the pools of a sub-model that was cut out of a larger model may be uneven."""
    sizes = torch.bincount(router.pool, minlength=len(POOLS)).tolist()
    if min(sizes) < router.top_k:
        raise ValueError(
            f"these weights hold {', '.join(map(str, sizes))} text, vision and audio experts (model.router = IsolatedRouter); each pool "
            f"must hold at least model.top_k = {router.top_k}; keep more experts of every pool or a smaller top-k"
        )
