"""Token groups of sounds: one position per codec frame, which reads its codes (summed embeddings) and predicts the next frame's.

    BOA -> a_1,  a_1 -> a_2, ...,  a_F -> end of sound in every level        (understood: read only)

Report: §2.3.2, Fig. 3. Ours: decision 6. Letters: F frames, Q codebooks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.sequence import Kind, TokenGroups
from ernie5.uni_rope import line_coords


def sound_groups(codes: Tensor, segment: int, origin: int, generate: bool, codebook_size: int) -> list[TokenGroups]:
    """codes `F Q` -> blocks; the first block of a generated sound is empty and carries the begin token's target."""
    num_frames = len(codes)
    group, coords = torch.arange(num_frames), line_coords(origin, num_frames)
    if not generate:
        return [TokenGroups(segment, Kind.AUDIO_UNDERSTAND, group, coords, audio=codes)]
    targets = torch.cat([codes, torch.full_like(codes[:1], codebook_size)])  # F+1 Q
    nothing = torch.zeros(0, dtype=torch.int64)
    begin = TokenGroups(segment, Kind.TEXT, nothing, torch.zeros(0, 3), audio_target=targets[:1])
    return [begin, TokenGroups(segment, Kind.AUDIO_GENERATE, group, coords, audio=codes, audio_target=targets[1:])]
