"""The text head in chunks equals the head that makes all logits."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ernie5.model.text_head import TextHead
from ernie5.parallel.chunked_head import ChunkedTextHead
from ernie5.parallel.in_front import in_front
from ernie5.sequence import Choice

DIM, IDS = 16, 48


def heads(chunk: int) -> tuple[TextHead, TextHead]:
    """(plain, chunked) with the same weights."""
    torch.manual_seed(0)
    plain, chunked = TextHead(DIM, IDS), TextHead(DIM, IDS)
    torch.nn.init.normal_(plain.weight)
    chunked.load_state_dict(plain.state_dict())
    in_front(chunked, ChunkedTextHead).chunk = chunk
    return plain, chunked


def targets(number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """hidden, target, weight (some are 0), choice (every third among two ids)."""
    random = torch.Generator().manual_seed(number)
    target = torch.randint(0, IDS, (number,), generator=random)
    choice = torch.zeros(number, dtype=torch.int64)
    choice[::3] = Choice.NEXT_OR_END
    target[::3] = 10
    weight = torch.rand(number, generator=random).where(torch.arange(number) % 5 > 0, 0.0)
    return torch.randn(number, DIM, generator=random), target, weight, choice


def of_sum(head: TextHead, number: int, with_choice: bool, bf16: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum, gradients of hidden states and weight."""
    hidden, target, weight, choice = targets(number)
    hidden.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        summed = head.nll_sum(hidden, target, weight, choice if with_choice else None)
    (0.37 * summed).backward()
    return summed.detach(), hidden.grad, head.weight.grad


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("with_choice", [False, True], ids=["all", "restricted"])
@pytest.mark.parametrize(("number", "chunk"), [(20, 7), (20, 20), (20, 1), (3, 64), (0, 4)])
def test_sum_and_gradients(number: int, chunk: int, with_choice: bool, bf16: bool) -> None:
    plain, chunked = heads(chunk)
    tolerance = 2e-2 if bf16 else 2e-6
    for found, expected in zip(of_sum(chunked, number, with_choice, bf16), of_sum(plain, number, with_choice, bf16), strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("number", [0, 20])
def test_nats_of_single_targets_keep_their_gradients(number: int) -> None:
    """For objectives that weigh them afterwards."""
    results = []
    for head in heads(chunk=7):
        hidden, target, weight, choice = targets(number)
        hidden.requires_grad_()
        nats = head.nll(hidden, target, choice)
        (nats**2 * weight).sum().backward()
        results.append((nats.detach(), hidden.grad, head.weight.grad))
    for plain, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, plain, rtol=2e-6, atol=2e-6)


class Largest(TorchDispatchMode):
    """The most rows that any tensor of logits has."""

    rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim == 2 and result.shape[1] == IDS:
            self.rows = max(self.rows, len(result))
        return result


def test_logits_are_never_more_than_a_chunk() -> None:
    found = []
    for head in heads(chunk=20):
        with Largest() as largest:
            of_sum(head, 200, True, False)
        found.append(largest.rows)
    assert found == [200, 20]


def test_not_a_number_stays_one_and_a_second_backward_is_refused() -> None:
    _, chunked = heads(chunk=7)
    hidden, target, weight, choice = targets(20)
    hidden.requires_grad_()
    summed = chunked.nll_sum(hidden, target, weight, choice)
    summed.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        summed.backward()
    with torch.no_grad():
        hidden[3] = torch.nan
    assert chunked.nll_sum(hidden, target, weight, choice).isnan()
