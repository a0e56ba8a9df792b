"""Experts in pieces equal experts at once, whatever the routing."""

import pytest
import torch

from ernie5.model.experts import Experts, LoopExperts
from ernie5.parallel.again import Recomputed
from ernie5.parallel.expert_pieces import ExpertsInPieces
from ernie5.parallel.in_front import in_front

DIM, NUM_EXPERTS, EXPERT_DIM = 16, 4, 8
COUNTS = {"even": [10, 10, 10, 10], "all on one": [0, 0, 40, 0], "no rows": [0, 0, 0, 0], "uneven": [1, 0, 25, 14], "few": [2, 0, 3, 1]}


class Counted(Experts):
    """In front of experts: the sizes of the pieces that reach them."""

    sizes: list[int]

    def forward(self, x: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        assert len(x) == int(counts.sum())
        self.sizes.append(len(x))
        return super().forward(x, counts)


def ran(experts: Experts, counts: list[int]) -> tuple[torch.Tensor, ...]:
    """Outputs and gradients of rows and weights."""
    x = torch.randn(sum(counts), DIM, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = experts(x, torch.tensor(counts))
    (y**2).sum().backward()
    return y.detach(), x.grad, experts.up.grad, experts.down.grad


def make(kind: type[Experts]) -> Experts:
    torch.manual_seed(0)
    experts = kind(DIM, NUM_EXPERTS, EXPERT_DIM)
    for parameter in experts.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return experts


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("again", [False, True], ids=["pieces", "selective"])
@pytest.mark.parametrize("kind", [Experts, LoopExperts])
def test_pieces_equal_the_whole(kind: type[Experts], again: bool, counts: list[int]) -> None:
    plain, pieces = make(kind), make(kind)
    in_front(pieces, Counted).sizes = sizes = []
    if again:
        in_front(pieces, Recomputed)
    in_front(pieces, ExpertsInPieces).most_rows = 7
    for found, expected in zip(ran(pieces, counts), ran(plain, counts), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
    assert max(sizes) <= 7
    fits, number = sum(counts) <= 7, max(1, -(-sum(counts) // 7))
    assert len(sizes) == (number if fits and not again else 2 * number), "what fits runs once, a piece runs twice"
