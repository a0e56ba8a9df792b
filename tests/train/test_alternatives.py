"""The alternative parts in whole runs: they train, resume to the same bits, and make every medium; older recipes still load."""

import pytest
import yaml
from micro_run import micro_recipe, run_micro, same_run, train_until_death

from ernie5.config import load_config, to_plain
from ernie5.generate.choose import Sampling
from ernie5.recipe import Recipe
from ernie5.sequence import Modality, Segment
from ernie5.train.load import load_run

ROUTERS = {
    "isolated": ["model.router=ernie5.model.router_isolated:IsolatedRouter", "model.num_experts=9"],
    "modality id": ["model.router=ernie5.model.router_modality_id:ModalityIdRouter"],
    "auxiliary": ["model.router=ernie5.model.router_auxiliary:AuxiliaryLossRouter", "train.balance_speed=0", "train.micro_rows=1"],
}
OTHERS = ["model.codec=parallel", "understanding.merger=mlp"]


@pytest.mark.parametrize("router", ROUTERS)
def test_runs_of_alternative_parts(micro, tmp_path, router) -> None:
    parts = ["train.steps=3", "train.checkpoint_every=1", *ROUTERS[router], *OTHERS]
    whole = run_micro(micro_recipe(tmp_path / "whole", micro.folder, *parts))
    recipe = micro_recipe(tmp_path / "cut", micro.folder, *parts)
    train_until_death(recipe, 3)
    same_run(run_micro(recipe), whole)
    biases = [t for name, t in whole.saved.tensors.items() if name.endswith("balance_bias")]
    assert any(b.any() for b in biases) is (router != "auxiliary")
    _, _, generator, _ = load_run(whole.folder)
    for to in Modality:
        made = generator.generate([[Segment(Modality.TEXT, "a small red circle")]], to, Sampling(temperature=1.0))
        assert len(made) == 1 and isinstance(made[0], str) is (to is Modality.TEXT)


def test_a_recipe_from_before_the_alternatives_loads(micro) -> None:
    recipe = load_config(Recipe, micro.folder / "recipe.yaml")
    plain = to_plain(recipe)
    for branch, key in (("model", "codec"), ("understanding", "merger")):
        del plain[branch][key]
    del plain["train"]["loss_weights"]["router"]
    assert load_config(Recipe, yaml.safe_load(yaml.safe_dump(plain))) == recipe
