"""Runs that several test files of this folder look at."""

import pytest


@pytest.fixture(scope="session")
def deep(micro, tmp_path_factory: pytest.TempPathFactory):
    """Two elastic steps of a model that has sub-models on every axis: 6 layers, 8 experts in 2 blocks, top-4. Tests leave it as it is."""
    from micro_run import micro_recipe, run_micro

    sizes = ("model.num_layers=6", "model.num_experts=8", "model.top_k=4", "train.steps=2")
    elastic = ("elastic.slots=2", "elastic.expert_blocks=2", "elastic.depth={probability: 0.5, sizes: [4, 5]}",
               "elastic.width={probability: 0.5, sizes: [4, 6]}", "elastic.sparsity={probability: 0.5, sizes: [1, 2]}")
    folder = tmp_path_factory.mktemp("runs") / "deep"
    return run_micro(micro_recipe(folder, micro.folder, *sizes, *elastic))
