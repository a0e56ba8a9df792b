"""Sampling: temperature, guidance, restricted choices, codes inside a pass."""

import pytest
import torch
from tiny_world import CODEBOOK_SIZE, WIDTHS, quantizer, small_model

from ernie5.generate.choose import ChooseCodes, Sampling
from ernie5.generate.picture import generate_picture
from ernie5.generate.session import Session
from ernie5.generate.sound import generate_sound
from ernie5.generate.text import text_block
from ernie5.model.text_head import restrict
from ernie5.sequence import Choice, Modality
from ernie5.tokenizers.special_tokens import SpecialToken


def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]])
    assert Sampling(temperature=0.0).classes(logits, random()).tolist() == [1, 0]
    assert Sampling(temperature=0.0).bits(torch.tensor([[0.1, -0.1]]), random()).tolist() == [[1.0, 0.0]]


def test_low_temperature_sharpens() -> None:
    logits = torch.tensor([[0.0, 1.0]]).expand(4000, 2)
    shares = [float(Sampling(temperature=t).classes(logits, random()).float().mean()) for t in (0.25, 1.0)]
    assert shares[0] == pytest.approx(0.982, abs=0.01) and shares[1] == pytest.approx(0.731, abs=0.02)


def test_guidance_moves_away_from_the_unconditional_half() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 0.5]])  # one prompt: with text, without
    sampling = Sampling(temperature=0.0, guidance=3.0)
    torch.testing.assert_close(sampling.guided(logits), torch.tensor([[3.0, -1.0]]))
    assert sampling.classes(logits, random()).tolist() == [0, 0]  # both rows go on alike


def test_guidance_keeps_restrictions() -> None:
    choice = torch.full((8,), int(Choice.NEXT_OR_END))
    logits = restrict(torch.randn(8, 64), choice)
    for guidance in (1.0, 2.0):
        chosen = Sampling(1.0, guidance).classes(logits, random())
        assert set(chosen.tolist()) <= {int(SpecialToken.NEXT_FRAME), int(SpecialToken.EOV)}


def test_known_codes_are_kept_and_unknown_ones_chosen() -> None:
    model = small_model()
    choose = ChooseCodes(model.heads, torch.tensor([[5, 6, 7], [-1, -1, -1]]), Sampling(1.0), random())
    for level in range(3):
        choose(level, torch.randn(2, 32))
    assert choose.targets[0].tolist() == [5, 6, 7]
    assert (choose.targets[1] >= 0).all()


def test_the_first_level_alone_ends_a_sound() -> None:
    model = small_model()
    torch.nn.init.zeros_(model.heads.audio[0].weight)
    model.heads.audio[0].weight.data[CODEBOOK_SIZE] = 100.0  # level 0 always ends when the hidden state is positive
    choose = ChooseCodes(model.heads, torch.full((1, 3), -1), Sampling(0.0), random())
    for level in range(3):
        choose(level, torch.ones(1, 32))
    assert choose.targets.tolist() == [[CODEBOOK_SIZE] * 3]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_pictures_clips_and_sounds_come_out_with_and_without_guidance(guidance: float) -> None:
    rows = 2 if guidance == 1.0 else 4
    for modality in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO):
        session = Session(small_model().eval(), rows, WIDTHS, Sampling(1.0, guidance), random())
        session.feed([[text_block(session, row, [int(SpecialToken.BOS), 20 + row])] for row in range(rows)])
        if modality is Modality.AUDIO:
            sounds = generate_sound(session, max_frames=3)
            assert all(len(s) <= 3 and s.shape[1] == 3 and (s < CODEBOOK_SIZE).all() for s in sounds)
            continue
        totals = generate_picture(session, modality, quantizer(), (4, 4), max_frames=3)
        assert all(t.shape[1:] == (8, 4, 4) and torch.isfinite(t).all() for t in totals)
        assert all(1 <= len(t) <= (1 if modality is Modality.IMAGE else 3) for t in totals)
