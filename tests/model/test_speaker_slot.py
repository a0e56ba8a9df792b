"""The speaker slot of the model: off means absent, a vector enters at SPEAKER and nowhere else, and a model learns to follow it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import CODEBOOKS, FEATURES, SMALL, VOCABULARY, WIDTHS, batch, grouping, packed_sample, small_model, sound, text

from ernie5.data_pipelines.collate import PackedSample, collate
from ernie5.data_pipelines.grouping import Coded
from ernie5.generate.choose import Sampling
from ernie5.generate.session import Session
from ernie5.generate.sound import generate_sound
from ernie5.generate.text import text_block
from ernie5.model.attention_mask import Where
from ernie5.model.codec_layers import TeacherForcing
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.parallel.context import Share, columns
from ernie5.parallel.engine import MicroBatch
from ernie5.sequence import Modality, PackedSequence, Role
from ernie5.tokenizers.special_tokens import SpecialToken as S
from ernie5.tokenizers.vision.understanding import UnderstandingConfig, UnderstandingEncoder

DIM = 6
WIDE = replace(WIDTHS, speaker_dim=DIM)


def voiced_model(seed: int = 0) -> UnifiedTransformer:
    torch.manual_seed(seed)
    encoder = UnderstandingEncoder(UnderstandingConfig(dim=16, num_heads=2, num_layers=1), FEATURES, SMALL.dim)
    return UnifiedTransformer(SMALL, replace(VOCABULARY, speaker_dim=DIM), encoder, seed)


def spoken(speaker: torch.Tensor | None, codes: torch.Tensor, name: str = "x") -> PackedSample:
    words = text(np.random.default_rng(0), 2)
    voiced = Coded(Modality.AUDIO, Role.GENERATE, codes, speaker=speaker)
    return PackedSample(name, grouping().document([words, voiced], np.random.default_rng(0)))


def frames(seed: int = 0) -> torch.Tensor:
    return sound(np.random.default_rng(seed), Role.GENERATE, frames=3).codes


def loss_of(model: UnifiedTransformer, packed: PackedSequence) -> torch.Tensor:
    return next_group_loss(model(packed), model.heads, packed, TargetCounts.of(packed), Weights()).total


def test_off_there_are_no_parameters_and_the_same_weights() -> None:
    off, on = small_model(random_heads=False).state_dict(), voiced_model().state_dict()
    assert on.keys() - off.keys() == {"embeddings.speaker.weight"}
    assert packed_sample("text_to_audio").groups[0].speaker is None


def test_the_slot_stands_before_the_sound_and_is_no_target() -> None:
    with_slot, without = spoken(torch.ones(DIM), frames()), spoken(None, frames())
    ids, plain = with_slot.groups[0].text.tolist(), without.groups[0].text.tolist()
    assert ids == [*plain[:-1], S.SPEAKER, S.BOA]
    assert with_slot.groups[0].text_target.tolist() == [*plain[1:-1], -1, S.BOA, -1]
    packed = collate([[with_slot, without], [with_slot]], 24, WIDE)
    assert packed.text[torch.isin(packed.text_at, packed.speaker_at)].tolist() == [S.SPEAKER] * 2
    assert packed.speaker_at.tolist() == [3, 24 + 3] and packed.speaker.shape == (2, DIM) and S.SPEAKER not in packed.text_target
    read = Coded(Modality.AUDIO, Role.UNDERSTAND, frames(), speaker=torch.ones(DIM))
    assert all(b.speaker is None for b in grouping().document([read], np.random.default_rng(0)))
    two = grouping().document([replace(read, role=Role.GENERATE), text(np.random.default_rng(0)), replace(read, role=Role.GENERATE)],
                              np.random.default_rng(0))
    assert [len(b.speaker) for b in two if b.speaker is not None] == [1, 1]


def test_only_the_direction_counts_and_only_what_comes_after_sees_it() -> None:
    model = voiced_model().eval()
    vector = torch.randn(DIM, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        streams = []
        for speaker in (vector, 7 * vector, -vector):
            packed = collate([[spoken(speaker, frames())]], 12, WIDE)
            streams.append(model.trunk(packed, model.mask(Where.of(packed), Where.of(packed)), TeacherForcing(packed.audio_target))[0][0])
    torch.testing.assert_close(streams[0], streams[1])
    moved = (streams[0] - streams[2]).abs().amax(1)
    assert (moved[:3] == 0).all() and (moved[3:8] > 1e-4).all()


def test_a_batch_without_speakers_gives_a_gradient_of_zeros() -> None:
    model = voiced_model()
    packed = replace(batch([["text_to_audio"]]), speaker=torch.zeros(0, DIM))
    loss_of(model, packed).backward()
    assert torch.equal(model.embeddings.speaker.weight.grad, torch.zeros(SMALL.dim, DIM))


@pytest.mark.parametrize("size", [2, 4])
def test_context_ranks_share_the_slots(size) -> None:
    packed = collate([[spoken(torch.randn(DIM), frames(i)) for i in range(4)], [spoken(torch.ones(DIM), frames())]], 48, WIDE)
    parts = [Share.of(MicroBatch(packed), rank, size).micro_batch.packed for rank in range(size)]
    assert sum(len(part.speaker_at) for part in parts) == len(packed.speaker_at) == 5
    model = voiced_model()
    whole = model.embeddings(packed)
    for ours, part in zip(columns(48, size), parts, strict=True):
        torch.testing.assert_close(model.embeddings(part), whole[:, ours])


def test_generation_feeds_what_training_reads() -> None:
    model, vector, codes = voiced_model().eval(), torch.randn(DIM), frames()
    sample = spoken(vector, codes)
    packed = collate([[sample]], len(sample), WIDE)
    with torch.no_grad():
        stream = model.trunk(packed, model.mask(Where.of(packed), Where.of(packed)), TeacherForcing(packed.audio_target))[0]
    session = Session(model, 1, WIDE, Sampling(), torch.Generator().manual_seed(0))
    words = sample.groups[0]
    words = replace(words, speaker=None, text=words.text[:3], group=torch.arange(3), coords=words.coords[:3], text_target=None,
                    audio_target=None)
    session.feed([[words]])
    fed = session.feed([[text_block(session, 0, [S.SPEAKER, S.BOA], codes[:1], vector[None])]])
    torch.testing.assert_close(fed.hidden[0], model.norm(stream)[0, 3:5], rtol=1e-4, atol=1e-5)


def test_a_model_learns_whose_sound_it_makes() -> None:
    """Four voices, each with a note of its own; the words are always the same, so only the vector can tell. New takes of each."""
    generator = torch.Generator().manual_seed(0)
    voices = torch.randn(4, DIM, generator=generator)
    notes = torch.stack([torch.tensor([7 * voice + level for level in range(CODEBOOKS)]) for voice in range(4)])  # 4 Q
    model = voiced_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)

    def take(voice: int) -> torch.Tensor:
        return voices[voice] + 0.2 * torch.randn(DIM, generator=generator)

    for _ in range(45):
        packed = collate([[spoken(take(voice), notes[voice].expand(3, -1)) for voice in range(4)]], 48, WIDE)
        optimizer.zero_grad()
        loss_of(model, packed).backward()
        optimizer.step()
    model.eval()
    rows = [voice for voice in range(4) for _ in range(4)]
    session = Session(model, len(rows), WIDE, Sampling(temperature=0.0), torch.Generator().manual_seed(0))
    prompt = replace(spoken(None, frames()).groups[0], audio_target=None, text_target=None)
    prompt = replace(prompt, text=prompt.text[:-1], group=prompt.group[:-1], coords=prompt.coords[:-1])
    session.feed([[prompt] for _ in rows])
    sounds = generate_sound(session, 6, [take(voice) for voice in rows])
    right = [s.shape == (3, CODEBOOKS) and torch.equal(s, notes[voice].expand(3, -1)) for voice, s in zip(rows, sounds, strict=True)]
    assert sum(right) >= 15, right
