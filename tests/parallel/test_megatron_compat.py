"""Each patch of megatron-core is needed on the CPU; with CUDA there is none; all go back."""

import pytest
from megatron_ranks import patches_and_back, without_tier


@pytest.mark.parametrize(("tier", "words"), [
    ("device", "CUDA"), ("literals", "CUDA"), ("splits", "CUDA"), ("types", "torch.cuda.FloatTensor"),
])
def test_megatron_does_not_run_without(ranks, tier, words) -> None:
    for said in ranks.run(2, without_tier, tier):
        assert said and words in said, said


def test_with_all_of_them_it_runs(ranks) -> None:
    assert ranks.run(2, without_tier, None) == ["", ""]


def test_installed_once_loud_and_undone(ranks) -> None:
    first, second, back, said = ranks.run(1, patches_and_back, False)[0]
    assert first == second > 0 and back and len(said) == 1 and "megatron-core runs on the CPU with the patches device" in said[0]


def test_with_cuda_nothing_is_patched(ranks) -> None:
    assert ranks.run(1, patches_and_back, True) == [(0, 0, True, [])]
