"""Layers over stages of a pipeline."""

import pytest

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.stages import of_rank, partition, stages_of

VOCABULARY = Vocabulary(64, 8, 3, 32, 6)


@pytest.mark.parametrize(("layers", "stages", "last", "sizes"), [
    (6, 2, 0.0, [3, 3]), (7, 3, 0.0, [2, 2, 3]), (6, 2, 2.0, [4, 2]), (6, 3, 9.0, [2, 3, 1]), (5, 5, 4.0, [1] * 5), (6, 1, 1.0, [6]),
])
def test_partition(layers, stages, last, sizes) -> None:
    parts = partition(layers, stages, last)
    assert [len(part) for part in parts] == sizes
    assert [i for part in parts for i in part] == list(range(layers))


@pytest.mark.parametrize("layers", range(4, 12))
@pytest.mark.parametrize("last", [0.0, 0.7, 1.3, 3.0])
def test_no_other_cut_is_lighter(layers, last) -> None:
    heaviest = max(len(part) + last * (part.stop == layers) for part in partition(layers, 3, last))
    others = [(a, b - a, layers - b) for a in range(1, layers) for b in range(a + 1, layers)]
    assert heaviest == pytest.approx(min(max(a, b, c + last) for a, b, c in others))


def test_the_heads_weigh() -> None:
    """A tiny vocabulary weighs little, the multi-token layer one; a large one takes layers from the last stage."""
    sizes = [[len(s) for s in stages_of(ParallelPlan("megatron", pipeline=2), ModelConfig(num_layers=8), vocabulary)]
             for vocabulary in (VOCABULARY, Vocabulary(4000, 8, 3, 32, 6))]
    assert sizes[0] == [5, 3] or sizes[0] == [4, 4]
    assert sizes[1][1] < sizes[0][1]


def test_interleaved() -> None:
    plan = ParallelPlan("megatron", pipeline=2, virtual_pipeline=2)
    stages = partition(6, 4)
    assert stages == [range(0, 1), range(1, 2), range(2, 4), range(4, 6)]
    assert of_rank(stages, plan, 0) == [range(0, 1), range(2, 4)] and of_rank(stages, plan, 1) == [range(1, 2), range(4, 6)]


@pytest.mark.parametrize(("pipeline", "virtual", "words"), [
    (4, 2, "makes 8 stages, each with a layer of its own, and model.num_layers = 6"), (1, 2, "parallel.virtual_pipeline = 2")])
def test_refusals(pipeline, virtual, words) -> None:
    with pytest.raises(ValueError, match=words):
        stages_of(ParallelPlan("megatron", pipeline=pipeline, virtual_pipeline=virtual), ModelConfig(num_layers=6), VOCABULARY)
