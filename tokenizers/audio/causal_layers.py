"""Layers that never look ahead and carry what they remember: the same code runs over a whole sound and over a stream.

    y, past' = layer(x, past)      past: what earlier inputs left behind; None where there were none
    convolution   W [x_{t-2e}, x_{t-e}, x_t]                       remembers 2e inputs; e = dilation; zeros before the first
    block         x + W2 silu(convolution(norm x))
    attention     x + softmax(q_t k_s / sqrt c + b_{t-s}) v_s      over t - window < s <= t; then x + W2 silu(W1 norm x); remembers w - 1
Positions are told apart by their distance alone (the learned bias b), so a stream may go on for ever.
Ours. Letters: n items, t steps, c width, h heads, w window, p remembered steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class CausalConvolution(nn.Module):
    """Kernel 3 over time, channels last: `n t c` -> `n t out`. One matrix on three inputs side by side: fast on CPUs, ready for Muon."""

    def __init__(self, dim: int, out: int, dilation: int = 1) -> None:
        super().__init__()
        self.linear, self.dilation = nn.Linear(3 * dim, out), dilation

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        if past is None:
            past = x.new_zeros(x.shape[0], 2 * self.dilation, x.shape[2])
        seen, num_steps = torch.cat([past, x], 1), x.shape[1]
        taps = [seen[:, i * self.dilation:i * self.dilation + num_steps] for i in range(3)]
        return self.linear(torch.cat(taps, -1)), seen[:, num_steps:]


class CausalBlock(nn.Module):
    """The residual block of the docstring above."""

    def __init__(self, dim: int, dilation: int = 1) -> None:
        super().__init__()
        self.mix, self.out = CausalConvolution(dim, dim, dilation), nn.Linear(dim, dim)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        mixed, past = self.mix(F.rms_norm(x, x.shape[-1:]), past)
        return x + self.out(F.silu(mixed)), past


class WindowAttention(nn.Module):
    """A transformer layer over the last `window` inputs."""

    def __init__(self, dim: int, head_dim: int, window: int) -> None:
        super().__init__()
        self.num_heads, self.window = dim // head_dim, window
        self.qkv, self.merge = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(self.num_heads * window))      # h w by distance; a vector to the optimizer
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        query, key, value = rearrange(self.qkv(F.rms_norm(x, x.shape[-1:])), "n t (k h c) -> k n h t c", k=3, h=self.num_heads)
        here = torch.cat([key, value], -1)                                                          # n h t 2c
        seen = here if past is None else torch.cat([past, here], 2)                                 # n h p+t 2c
        keys, values = seen.chunk(2, -1)
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=self._bias(x.shape[1], seen.shape[2], query))
        x = x + self.merge(rearrange(mixed, "n h t c -> n t (h c)"))
        x = x + self.down(F.silu(self.up(F.rms_norm(x, x.shape[-1:]))))
        return x, seen[:, :, max(0, seen.shape[2] - self.window + 1):]

    def _bias(self, num_queries: int, num_keys: int, like: Tensor) -> Tensor:
        """h t p+t; minus infinity outside the window."""
        at = torch.arange(num_keys, device=like.device)
        distance = at[num_keys - num_queries:, None] - at
        bias = self.bias.view(self.num_heads, self.window)[:, distance.clamp(0, self.window - 1)]
        return bias.masked_fill((distance < 0) | (distance >= self.window), float("-inf")).to(like.dtype)


class CausalStack(nn.ModuleList):
    """Layers one after another; remembers what each of them does."""

    def forward(self, x: Tensor, past: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        kept = []
        for i, layer in enumerate(self):
            x, left = layer(x, past[i] if past else None)
            kept.append(left)
        return x, kept


def stack(dim: int, num_blocks: int, num_layers: int, head_dim: int, window: int) -> CausalStack:
    """Blocks of dilation 1, 2, 4, 1, …, then attention."""
    blocks = [CausalBlock(dim, 2 ** (i % 3)) for i in range(num_blocks)]
    return CausalStack([*blocks, *(WindowAttention(dim, head_dim, window) for _ in range(num_layers))])
