"""A model with few bits on is the model of those bits alone, and what is off stays exactly zero until it is switched on."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny_world import BITS, SMALL, VOCABULARY, batch, small_model

from ernie5.data_pipelines.history import HistoryConfig
from ernie5.model.bit_growth import begin_with
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import PosteriorWeights, Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.torch_engine import TorchEngine
from ernie5.parallel.world import World
from ernie5.train.optimizer import OptimizerConfig, make_optimizer
from ernie5.train.training import Objective

ON = 5
ROWS = [["text_to_image", "text_to_video"], ["mixed"]]
BITWISE = {"embeddings.vision.weight": 1, "heads.vision.weight": 0, "heads.vision.bias": 0}  # and the dim of the bits


def model_of(bits: int) -> UnifiedTransformer:
    model = small_model()
    begin_with(model, bits)
    return model


def losses_and_gradients(model: UnifiedTransformer, packed) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    objective = Objective(NextGroupLoss(), model)
    objective.begin(TargetCounts.of(packed), Weights())
    losses = objective(model, MicroBatch(packed))
    losses.total.backward()
    return losses.detached(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_a_batch_holds_the_first_bits_of_the_full_one() -> None:
    """The corruption of the history too: the flips of a bit do not depend on how many bits are on."""
    few, all_bits = (batch(ROWS, seed=3, history=HistoryConfig(), bits=bits) for bits in (ON, BITS))
    assert few.vision.shape[1] == few.vision_target.shape[1] == ON and len(few.vision) > 100
    assert torch.equal(few.vision, all_bits.vision[:, :ON]) and torch.equal(few.vision_target, all_bits.vision_target[:, :ON])
    assert torch.equal(few.vision_target_at, all_bits.vision_target_at) and torch.equal(few.group, all_bits.group)


def test_few_bits_are_the_model_of_these_bits_alone() -> None:
    """Losses and gradients are those of a model whose tokenizer has no other bits; the gradient of what is off is exactly zero."""
    wide, narrow = model_of(ON), small_model()
    alone = UnifiedTransformer(SMALL, replace(VOCABULARY, bits=ON), narrow.embeddings.understanding)
    weights = wide.state_dict()
    alone.load_state_dict({n: w.narrow(BITWISE[n], 0, ON) if n in BITWISE else w for n, w in weights.items()})
    packed = batch(ROWS, bits=ON)
    (losses, gradients), (expected, others) = losses_and_gradients(wide, packed), losses_and_gradients(alone, packed)
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)
    assert losses[3] > 0 and gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        dim = BITWISE.get(name)
        found = gradient if dim is None else gradient.narrow(dim, 0, ON)
        torch.testing.assert_close(found, others[name], rtol=1e-4, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")
        if dim is not None:
            assert gradient.narrow(dim, ON, BITS - ON).count_nonzero() == 0 and gradient.count_nonzero() > 0


def test_what_is_off_stays_zero_through_adam_and_decay() -> None:
    model = model_of(ON)
    engine = TorchEngine(model, partial(make_optimizer, config=OptimizerConfig()), World(0, 1, torch.device("cpu")))
    objective = Objective(NextGroupLoss(), model)

    def steps(bits: int) -> dict[str, int]:
        """Three of them; how many elements of weights and moments of the bits above `ON` are not zero."""
        for seed in range(3):
            packed = batch(ROWS, seed=seed, history=HistoryConfig(), bits=bits)
            objective.begin(TargetCounts.of(packed), Weights())
            engine.forward_backward([MicroBatch(packed)], objective)
            engine.optimizer_step(1e-2)
        parts = {s.name: s.data for s in engine.shards()}
        return {key: int(tensor.narrow(dim, ON, BITS - ON).count_nonzero()) for name, dim in BITWISE.items()
                for key, tensor in parts.items() if key.endswith(f".{name}") and tensor.ndim}

    off = steps(ON)
    assert len(off) == 9 and set(off.values()) == {0}  # weight and two moments of three tensors
    assert all(steps(BITS).values())


def test_a_switch_changes_no_old_logit_and_new_bits_begin_at_ln_2() -> None:
    model = model_of(ON).eval()
    few, all_bits = batch(ROWS, bits=ON), batch(ROWS)
    with torch.no_grad():
        before, after = (model.heads.vision(model(packed).vision) for packed in (few, all_bits))
    assert torch.equal(before, after) and after[:, ON:].count_nonzero() == 0 and after[:, :ON].count_nonzero() > 0
    losses = [losses_and_gradients(model, packed)[0] for packed in (few, all_bits)]
    old, now = (float(loss[3]) for loss in losses)
    assert now == pytest.approx((ON * old + (BITS - ON) * torch.tensor(2.0).log().item()) / BITS, abs=1e-6)
    others = [1, 2, 4]
    assert torch.equal(losses[0][others], losses[1][others])


def test_columns_that_are_on_are_drawn_for_so_many_inputs() -> None:
    begun, plain = model_of(2).embeddings.vision.weight, small_model().embeddings.vision.weight
    assert torch.equal(begun[:, :2], plain[:, :2] * 2.0) and BITS == 8
    assert torch.equal(model_of(BITS).embeddings.vision.weight, plain)


def test_posterior_weights_expect_the_new_bits() -> None:
    weights = PosteriorWeights(Weights(), means={"vision": 0.2, "text": 1.0})
    weights.more_bits(8, 16)
    assert weights.means == {"vision": pytest.approx((0.2 + 0.693147) / 2, abs=1e-6), "text": 1.0}
    fresh = PosteriorWeights(Weights())
    fresh.more_bits(8, 16)
    assert not fresh.means
