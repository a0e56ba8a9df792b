"""Planned memory is within 10 % of what two ranks of the real engines hold and save."""

import statistics

import pytest
from saved import MODELS, measure, planned

MEGATRON = {"engine": "megatron"}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("settings", [{}, {"expert": 2}, MEGATRON | {"tensor": 2}, MEGATRON | {"tensor": 2, "sequence": True},
                                      MEGATRON | {"expert": 2}], ids=lambda settings: ", ".join(map(str, settings.values())) or "data")
def test_memory_of_real_ranks(ranks, settings, model) -> None:
    found, expected = ranks.run(2, measure, settings, model), [planned(settings, model, 2, rank) for rank in range(2)]
    assert [weights for weights, _ in found] == [memory.states.weights for memory in expected]
    # a fresh router is not even: ranks of one group differ, and their mean is what was planned
    assert statistics.mean(m.activations for m in expected) == pytest.approx(statistics.mean(saved for _, saved in found), rel=0.1)
