"""Routing with a modality id, the alternative to the modality-agnostic router: a learned preference of each modality for each expert.

    s = sigmoid(W x + B[modality]);     B: one vector of E numbers for text, image, video and audio, zero at first

`model.router: ernie5.model.router_modality_id:ModalityIdRouter`. With B = 0 it is the plain router, and initial weights are the same.
Four vectors and not one matrix: like biases they are not decayed, and have one row per expert when a sub-model is cut out.
Report: §2.1, §6.4.1 (what its router does without). Ours: the form. Letters: T tokens, D width, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ernie5.model.config import ModelConfig
from ernie5.model.router import Router
from ernie5.sequence import Kind, Modality

MODALITY_OF = {
    Kind.TEXT: Modality.TEXT,
    Kind.IMAGE_UNDERSTAND: Modality.IMAGE, Kind.IMAGE_GENERATE: Modality.IMAGE,
    Kind.VIDEO_UNDERSTAND: Modality.VIDEO, Kind.VIDEO_GENERATE: Modality.VIDEO,
    Kind.AUDIO_UNDERSTAND: Modality.AUDIO, Kind.AUDIO_GENERATE: Modality.AUDIO,
}


class ModalityIdRouter(Router):
    """`by_modality`: four vectors of `E`, in the order of `Modality`."""

    modality_of_kind: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.by_modality = nn.ParameterList(nn.Parameter(torch.zeros(config.num_experts)) for _ in Modality)
        rows = [list(Modality).index(MODALITY_OF[kind]) for kind in Kind]
        self.register_buffer("modality_of_kind", torch.tensor([*rows, 0]), persistent=False)  # the last is that of padding, kind -1

    def scores(self, x: Tensor, kind: Tensor) -> Tensor:
        """`T E` float32 in 0 … 1."""
        table = torch.stack(list(self.by_modality)).float()  # modalities E
        with torch.autocast(x.device.type, enabled=False):
            return torch.sigmoid(x.float() @ self.weight.float().T + table.index_select(0, self.modality_of_kind[kind]))
