"""The stand-alone small model equals the masked big one, and holds nothing else."""

import dataclasses

import pytest
import torch
from tiny_world import SMALL, batch, small_model

from ernie5.model.elastic import FULL, SubModel
from ernie5.model.extract import cut_config, cut_tensors, extract

CONFIG = dataclasses.replace(SMALL, num_layers=6, num_experts=8, top_k=4, num_shared_experts=1)
SETS = tuple(tuple(sorted({(layer + e) % 8 for e in (0, 2, 3, 6)})) for layer in range(7))
SUBMODELS = {
    "full": FULL, "depth": SubModel(keep_layers=(0, 2, 3, 4, 5)), "width": SubModel(experts=SETS), "sparsity": SubModel(top_k=2),
    "one expert per token": SubModel(top_k=1), "all": SubModel((0, 3, 4, 5), SETS, 3),
}


@pytest.fixture(scope="module")
def model():
    """Biases, norms and all: nothing is at its initial value."""
    model = small_model(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.2)
    for layer in [*model.layers, model.multi_token.layer]:
        layer.moe.router.balance_bias.uniform_(-0.2, 0.2)
    return model


@pytest.mark.parametrize("name", SUBMODELS)
def test_the_extracted_model_equals_the_masked_one(model, name: str) -> None:
    submodel, packed = SUBMODELS[name], batch([["mixed"], ["video_to_text", "text_to_audio"]], length=256)
    small = extract(model, submodel)
    with torch.no_grad():
        big, alone = model(packed, submodel), small(packed)
    assert big.load.sum() == alone.load.sum() and len(big.layers) == len(alone.layers)
    for key, logits in model.logits(big).items():
        torch.testing.assert_close(small.logits(alone)[key], logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone.next_text, big.next_text, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SUBMODELS)
def test_it_holds_only_its_own_parameters(model, name: str) -> None:
    submodel = SUBMODELS[name]
    small = extract(model, submodel)
    layers, experts, top_k = submodel.size(CONFIG)
    assert (small.config.num_layers, small.config.num_experts, small.config.top_k) == (layers, experts, top_k)
    by_expert = sum(p[0].numel() for n, p in model.layers[0].moe.named_parameters() if n.startswith(("experts.", "router.")))
    layer = sum(p.numel() for p in model.layers[0].parameters())
    gone = (6 - layers) * layer + (layers + 1) * (8 - experts) * by_expert
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in model.parameters()) - gone
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in small.parameters()}
    assert not shared


def test_gradients_are_those_of_the_masked_model(model) -> None:
    submodel, packed = SUBMODELS["all"], batch([["mixed"]], length=256)
    small = extract(model, submodel)
    for which, arguments in ((model, (packed, submodel)), (small, (packed,))):
        which.zero_grad()
        hidden = which(*arguments)
        sum(logits.square().mean() for logits in which.logits(hidden).values()).backward()
    gradients = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in model.named_parameters()}
    for name, gradient in cut_tensors(gradients, submodel, CONFIG).items():
        own = small.get_parameter(name).grad
        torch.testing.assert_close(torch.zeros_like(gradient) if own is None else own, gradient, rtol=1e-4, atol=1e-6)


def test_moments_and_router_counts_of_a_checkpoint_are_cut_alike(model) -> None:
    submodel = SUBMODELS["all"]
    state = {f"model.{n}": t for n, t in model.state_dict().items()}
    state |= {f"optimizer.exp_avg.{n}": 2 * p.detach() for n, p in model.named_parameters()}
    state |= {f"optimizer.step.{n}": torch.tensor(3.0) for n, _ in model.named_parameters()}
    state["router_load"] = torch.arange(7 * 7 * 8.0).view(7, 7, 8)
    cut = cut_tensors(state, submodel, CONFIG)
    small = extract(model, submodel)
    assert {n for n in cut if n.startswith("model.")} == {f"model.{n}" for n in small.state_dict()}
    for name, parameter in small.named_parameters():
        assert torch.equal(cut[f"optimizer.exp_avg.{name}"], 2 * parameter) and cut[f"optimizer.step.{name}"] == 3
    assert cut["router_load"].shape == (5, 7, 4)
    assert torch.equal(cut["router_load"][1], state["router_load"][3][:, list(SETS[3])])


def test_what_a_model_does_not_hold_is_refused(model) -> None:
    with pytest.raises(ValueError, match="SubModel.keep_layers"):
        extract(model, SubModel(keep_layers=(0, 5)))
    assert cut_config(CONFIG, FULL) == CONFIG
