"""Which experts and which sizes a sub-model may have."""

import pytest
import torch

from ernie5.family.grid import Grid
from ernie5.family.keep_experts import Size, by_usage, evenly
from ernie5.model.config import ModelConfig
from ernie5.model.elastic import FULL
from ernie5.sequence import Kind

CONFIG = ModelConfig(num_layers=8, num_experts=16, top_k=4)


def test_a_rare_kind_keeps_its_experts() -> None:
    usage = torch.zeros(1, len(Kind), 4, dtype=torch.int64)
    usage[0, Kind.TEXT] = torch.tensor([600, 300, 100, 0])        # shares 0.6 0.3 0.1 0
    usage[0, Kind.AUDIO_GENERATE] = torch.tensor([0, 0, 1, 3])    # shares 0   0   0.25 0.75
    assert by_usage(usage, 2, blocks=1) == ((0, 3),)              # means 0.3 0.15 0.175 0.375
    assert by_usage(usage, 3, blocks=1) == ((0, 2, 3),)
    assert by_usage(usage, 4, blocks=1) == ((0, 1, 2, 3),)


def test_every_block_keeps_equally_many_and_layers_choose_for_themselves() -> None:
    usage = torch.zeros(2, len(Kind), 8, dtype=torch.int64)
    usage[0, Kind.TEXT] = torch.tensor([9, 8, 7, 6, 1, 2, 3, 4])
    usage[1, Kind.TEXT] = torch.tensor([5, 5, 5, 5, 5, 5, 5, 6])
    assert by_usage(usage, 4, blocks=2) == ((0, 1, 6, 7), (0, 1, 4, 7))  # equals: the first
    assert by_usage(usage, 4, blocks=1) == ((0, 1, 2, 3), (0, 1, 2, 7))


def test_a_layer_that_nothing_reached_is_refused() -> None:
    usage = torch.ones(3, len(Kind), 4, dtype=torch.int64)
    usage[1] = 0
    with pytest.raises(ValueError, match="no position reached layer 2 .*--keep even"):
        by_usage(usage, 2, blocks=1)


def test_an_even_subset_is_spread() -> None:
    assert evenly(16, 4, 2, blocks=1) == ((2, 6, 10, 14),) * 2
    assert evenly(16, 4, 1, blocks=2) == ((2, 6, 10, 14),)
    assert evenly(8, 6, 1, blocks=2) == ((0, 2, 3, 4, 6, 7),)
    assert evenly(8, 8, 1, blocks=4) == (tuple(range(8)),)


@pytest.mark.parametrize(("size", "message"), [
    (Size(3, 16, 4), "--layers 3 must lie between 4 and 8: the first layer stays, and so do the 3 that emit audio codes"),
    (Size(9, 16, 4), "--layers 9 must lie between 4 and 8"),
    (Size(8, 17, 4), "--experts 17 must lie between 1 and model.num_experts = 16"),
    (Size(8, 10, 4), "--experts 10 must be a multiple of elastic.expert_blocks = 4"),
    (Size(8, 16, 5), "--top-k 5 must lie between 1 and model.top_k = 4"),
    (Size(8, 16, 0), "--top-k 0 must lie between 1"),
])
def test_impossible_sizes(size, message) -> None:
    with pytest.raises(ValueError, match=message):
        size.check(CONFIG, 3, blocks=4)


def test_more_experts_per_token_than_experts() -> None:
    with pytest.raises(ValueError, match="--top-k 4 is more than the 2 experts that are kept"):
        Size(8, 2, 4).check(CONFIG, 3, blocks=1)


def test_a_size_names_its_sub_model() -> None:
    assert Size.full(CONFIG).submodel(CONFIG, 3, None) == FULL
    small = Size(6, 8, 2).submodel(CONFIG, 3, evenly(16, 8, CONFIG.num_moe_layers, 1))
    small.check(CONFIG, 3)
    assert small.size(CONFIG) == (6, 8, 2)


def test_the_usual_grid() -> None:
    sizes = Grid().sizes(CONFIG, 3, blocks=1)
    assert {s.layers for s in sizes} == {8, 6, 4} and {s.experts for s in sizes} == {16, 12, 8} and {s.top_k for s in sizes} == {4, 2, 1}
    assert len(sizes) == 27 and sizes[0] == Size.full(CONFIG)
    assert {s.experts for s in Grid().sizes(CONFIG, 3, blocks=8)} == {16, 8}
    shallow = ModelConfig(num_layers=4, num_experts=4, top_k=2)
    assert {s.layers for s in Grid().sizes(shallow, 3, blocks=1)} == {4}


def test_a_grid_of_ones_own(caplog) -> None:
    sizes = Grid(layers=(6,), experts=(8, 2), top_k=(4, 2)).sizes(CONFIG, 3, blocks=1)
    assert sizes == [Size(8, 16, 4), Size(6, 8, 4), Size(6, 8, 2), Size(6, 2, 2)]
    assert "left out: 6 layers, 2 experts, top-4" in caplog.text
    with pytest.raises(ValueError, match="--layers 2 must lie"):
        Grid(layers=(6, 2)).sizes(CONFIG, 3, blocks=1)
