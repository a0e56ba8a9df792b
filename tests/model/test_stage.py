"""Stages of a pipeline, one after the other, are the whole model: losses, gradients, router counts, names."""

import dataclasses

import pytest
import torch
from tiny_world import SMALL, batch, small_model

from ernie5.model.attention_mask import Where
from ernie5.model.config import ModelConfig
from ernie5.model.elastic import FULL, Elastic, SubModel
from ernie5.model.elastic_samples import SubModels
from ernie5.model.router_balance import RouterBalance
from ernie5.model.stage import Elsewhere, keep, stage
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts, next_group_loss
from ernie5.parallel.engine import MicroBatch
from ernie5.sequence import PackedSequence
from ernie5.train.training import Objective

MODEL = ModelConfig(dim=32, num_layers=6, num_heads=2, num_kv_heads=1, num_experts=4, top_k=2, expert_dim=16, rope_base=1e3)
ROWS = [["mixed", "text"], ["text_to_video", "text_to_audio"]]
CUTS = {"two": [range(0, 3), range(3, 6)], "levels apart": [range(0, 1), range(1, 3), range(3, 5), range(5, 6)]}
SKIPPED = SubModel((0, 3, 4, 5))  # layers 1 and 2 run nowhere


class Chained(torch.nn.Module):
    """Stages in one process, handing the stream on."""

    def __init__(self, model: UnifiedTransformer, cut: list[range]) -> None:
        super().__init__()
        self.stages = [stage(model, layers) for layers in cut]

    def step(self, packed: PackedSequence, submodel: Elastic, objective: Objective) -> torch.Tensor:
        """Backward through all of them; the five losses."""
        losses, x = [], None
        for part in self.stages:
            def run(packed, submodel, part=part):
                nonlocal x
                x, hidden = part.run(packed, part.mask(Where.of(packed), Where.of(packed)), submodel, x)
                return hidden
            losses.append(objective(run, MicroBatch(packed, submodel)))
        sum(loss.total for loss in losses).backward()
        return torch.stack([loss.detached() for loss in losses]).sum(dim=0)


def gradients(model: UnifiedTransformer) -> dict[str, torch.Tensor | None]:
    found = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def submodel_of(name: str, packed: PackedSequence) -> Elastic:
    half = SubModel((0, 2, 3, 4, 5), top_k=1)
    by_id = {"mixed": half, "text": FULL, "text_to_video": SKIPPED, "text_to_audio": half}
    return {"full": FULL, "a stage left out": SKIPPED, "by sample": SubModels.of(packed, by_id)}[name]


@pytest.mark.parametrize("submodel", ["full", "a stage left out", "by sample"])
@pytest.mark.parametrize(("cut", "codec"), [("two", "depthwise"), ("levels apart", "depthwise"), ("two", "parallel")])
def test_stages_are_the_whole_model(cut, codec, submodel) -> None:
    model = small_model(dataclasses.replace(MODEL, codec=codec, router="ernie5.model.router_auxiliary:AuxiliaryLossRouter"))
    packed = batch(ROWS, length=256)
    counts, weights, which = TargetCounts.of(packed), Weights(router=0.5), submodel_of(submodel, packed)
    losses = next_group_loss(model(packed, which), model.heads, packed, counts, weights)
    losses.total.backward()
    expected, hidden = gradients(model), model(packed, which)
    objective = Objective(NextGroupLoss(), model)
    objective.begin(counts, weights)
    found = Chained(model, CUTS[cut]).step(packed, which, objective)
    torch.testing.assert_close(found, losses.detached(), rtol=1e-6, atol=1e-6)
    for name, gradient in gradients(model).items():
        if expected[name] is None:
            assert gradient is None, name
        else:
            torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    layers = torch.tensor(hidden.layers)
    assert torch.equal(objective.load(7)[layers], hidden.load.double()) and objective.load(7).sum() == hidden.load.sum()
    torch.testing.assert_close(objective.even(7)[layers], hidden.even)


def test_each_tensor_has_one_owner_and_its_name() -> None:
    """But the text table, which the multi-token module reads too."""
    model = small_model(MODEL)
    parts = [set(stage(model, layers).state_dict()) for layers in CUTS["levels apart"]]
    assert set().union(*parts) == set(model.state_dict())
    twice = {name for i, one in enumerate(parts) for other in parts[:i] for name in one & other}
    assert twice == {"embeddings.text.weight"} and "embeddings.text.weight" in parts[0] & parts[-1]
    assert {"heads.audio.0.weight", "heads.audio.1.weight", "codec.tables.1.weight"} <= parts[2] and "heads.audio.2.weight" in parts[3]
    assert model.here == (0, 1, 2, 3, 4, 5) and not any(isinstance(m, Elsewhere) for m in model.modules())


def test_without_multi_token_nothing_is_held_twice() -> None:
    model = small_model(dataclasses.replace(MODEL, multi_token=False))
    parts = [set(stage(model, layers).state_dict()) for layers in CUTS["two"]]
    assert not parts[0] & parts[1]


def test_balance_moves_the_layers_that_are_here() -> None:
    model = small_model(SMALL)
    before = {name: b.clone() for name, b in model.named_buffers() if "balance_bias" in name}
    keep(model, [1, 3])
    RouterBalance(model, speed=0.01).step(torch.tensor([1.0, -1, 1, -1]).expand(5, 4))
    left = {name: b for name, b in model.named_buffers() if "balance_bias" in name}
    assert {name.removesuffix(".moe.router.balance_bias") for name in left} == {"layers.1", "layers.3", "multi_token.layer"}
    for name, bias in left.items():
        torch.testing.assert_close(bias, before[name] - torch.tensor([0.01, -0.01, 0.01, -0.01]))


def test_what_is_elsewhere_cannot_be_run() -> None:
    model = small_model(SMALL)
    keep(model, [2, 3])
    with pytest.raises(AttributeError, match="another stage of the pipeline"):
        model(batch([["text"]]))
    with pytest.raises(RuntimeError, match="another stage of the pipeline"):
        model.layers[0](torch.zeros(1))


def test_an_objective_of_your_own_is_refused_by_name() -> None:
    class Mine(NextGroupLoss):
        def __call__(self, hidden, heads, packed, counts, weights):
            return super().__call__(hidden, heads, packed, counts, weights)

    class Renamed(NextGroupLoss):
        pass

    model = small_model(SMALL)
    Objective(Mine(), model)
    keep(model, [0, 1])
    Objective(Renamed(), model)
    with pytest.raises(ValueError, match=r"train.objective = Mine .* parallel.pipeline > 1"):
        Objective(Mine(), model)
