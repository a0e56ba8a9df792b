"""A micro-batch cut along its length: every position, target and read is on one context rank; attention over gathered keys is attention."""

import dataclasses

import pytest
import torch
from tiny_world import batch, small_model

from ernie5.model.attention_mask import DenseMask, FlexMask, Where
from ernie5.model.elastic import FULL, SubModel
from ernie5.model.elastic_samples import SubModels
from ernie5.objectives.next_group import TargetCounts
from ernie5.parallel.context import LISTS, GatheredKeys, Share, columns
from ernie5.parallel.engine import MicroBatch

ROWS = [["mixed", "text"], ["text_to_image", "text", "text", "text", "image_to_text", "text_to_video", "audio_to_text"]]  # picture at 61-64


def shares(size: int, length: int = 256) -> tuple[MicroBatch, list[Share]]:
    whole = MicroBatch(batch(ROWS, length=length))
    return whole, [Share.of(whole, rank, size) for rank in range(size)]


def test_early_and_late_chunks_go_together() -> None:
    assert columns(8, 2).tolist() == [[0, 1, 6, 7], [2, 3, 4, 5]]
    assert columns(12, 3).tolist() == [[0, 1, 10, 11], [2, 3, 8, 9], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="multiple of 4"):
        columns(10, 2)


@pytest.mark.parametrize("size", [2, 4])
def test_every_target_and_read_is_on_one_rank(size) -> None:
    whole, parts = shares(size)
    rows, length = whole.packed.sample.shape
    ours = columns(length, size)
    assert sum((TargetCounts.of(p.micro_batch.packed) for p in parts), start=TargetCounts()) == TargetCounts.of(whole.packed)
    for positions, beside in LISTS.items():
        back = [(torch.arange(rows)[:, None] * length + ours[rank]).flatten()[getattr(part.micro_batch.packed, positions)]
                for rank, part in enumerate(parts)]
        order = torch.cat(back).argsort()
        assert torch.equal(torch.cat(back)[order], getattr(whole.packed, positions)), positions
        for name in beside:
            found = torch.cat([getattr(p.micro_batch.packed, name) for p in parts])[order]
            assert torch.equal(found, getattr(whole.packed, name)), name


@pytest.mark.parametrize("size", [2, 4])
def test_parts_read_what_the_whole_reads(size) -> None:
    """Pictures that reach over a border are encoded by both ranks, and their gradients add up."""
    model, (whole, parts) = small_model(), shares(size)
    x = model.embeddings(whole.packed)
    x.square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.embeddings.named_parameters()}
    model.zero_grad()
    encoded = sum(len(b.sizes) for p in parts for b in p.micro_batch.packed.understand)
    assert encoded > sum(len(b.sizes) for b in whole.packed.understand)
    for ours, part in zip(columns(256, size), parts, strict=True):
        y = model.embeddings(part.micro_batch.packed)
        torch.testing.assert_close(y, x[:, ours])
        y.square().sum().backward()
    for name, parameter in model.embeddings.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # on the CPU, as a reference
@pytest.mark.parametrize("kind", [DenseMask, FlexMask])
def test_attention_over_gathered_keys(kind) -> None:
    size, (whole, parts) = 2, shares(2)
    q, k, v = (torch.randn(2, 2, 256, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    everywhere = Where.of(whole.packed)
    expected = DenseMask.build(everywhere, everywhere, 4).attend(q, k, v)
    order = columns(256, size)
    for ours, part in zip(order, parts, strict=True):
        def gather(x: torch.Tensor, ours=ours) -> torch.Tensor:
            both = torch.stack([k, v]).movedim(3, 0)
            assert torch.equal(x, both[ours])
            return both[order.flatten()]

        mask = GatheredKeys(kind.build(Where.of(part.micro_batch.packed), part.keys, 4), gather)
        torch.testing.assert_close(mask.attend(q[:, :, ours], k[:, :, ours], v[:, :, ours]), expected[:, :, ours], rtol=1e-4, atol=1e-5)


def test_sub_models_of_samples_go_with_their_positions() -> None:
    packed = batch(ROWS, length=256)
    shallow = SubModel((0, 2, 3))
    by_id = {name: shallow if name == "mixed" else FULL for row in packed.sample_ids for name in row}
    submodel = SubModels.of(packed, by_id)
    for rank, ours in enumerate(columns(256, 2)):
        part = Share.of(MicroBatch(packed, submodel), rank, 2).micro_batch.submodel
        assert torch.equal(part.part, submodel.part[:, ours]) and part.keeps(1) == submodel.keeps(1)


def test_nothing_is_cut_alone() -> None:
    whole = MicroBatch(batch(ROWS, length=256))
    assert Share.of(whole, 0, 1).micro_batch is whole


def test_a_new_field_must_be_cut() -> None:
    @dataclasses.dataclass(frozen=True)
    class More(type(batch(ROWS))):
        extra: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros(1))

    packed = batch(ROWS, length=256)
    more = More(**{f.name: getattr(packed, f.name) for f in dataclasses.fields(packed)})
    with pytest.raises(AssertionError, match="nobody cuts"):
        Share.of(MicroBatch(more), 0, 2)
