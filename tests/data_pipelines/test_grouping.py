"""Documents as token groups: the layouts of the report's Fig. 2 and 3, position by position."""

import numpy as np
import pytest
import torch
from tiny_world import CODEBOOK_SIZE, batch, documents, grouping, picture, sound, text

from ernie5.data_pipelines.history import HistoryConfig
from ernie5.sequence import Choice, Kind, Modality, Role
from ernie5.tokenizers.special_tokens import SpecialToken as S


def flat(blocks, field):
    return [int(x) for block in blocks if getattr(block, field) is not None for x in getattr(block, field)]


def test_text_predicts_the_next_token_and_the_end() -> None:
    words = text(np.random.default_rng(0), 3)
    blocks = grouping().document([words], np.random.default_rng(0))
    ids = words.codes.tolist()
    assert flat(blocks, "text") == [S.BOS, *ids]
    assert flat(blocks, "text_target") == [*ids, S.EOS]


def test_generated_image_layout() -> None:
    random = np.random.default_rng(0)
    words, image = text(random, 2), picture(random, Role.GENERATE)
    blocks = grouping().document([words, image], random)
    ids = words.codes.tolist()
    assert [len(b) for b in blocks] == [4, 4, 16, 1, 1]  # BOS + text + BOI, scale 2, scale 3, pooled, EOI
    assert flat(blocks, "text") == [S.BOS, *ids, S.BOI, S.EOI]
    assert flat(blocks, "text_target") == [*ids, S.BOI, -1, S.EOS]  # BOI predicts bits; the pooled sum of an image has no target
    begin, second, third, pooled = blocks[:4]
    assert begin.vision_target.shape == (1, 8) and second.vision_target.shape == (4, 8) and third.vision_target.shape == (16, 8)
    assert pooled.vision_target is None and pooled.vision.shape == (1, 8)
    coded = grouping().quantizer.encode(image.codes.latent)
    torch.testing.assert_close(second.vision, coded.reads[0][0])
    assert torch.equal(third.vision_target, coded.bits[2][0])
    assert second.coords[:, 0].tolist() == [4] * 4  # BOI at 3, its picture from 4 on
    assert blocks[-1].coords[0, 0] == 8  # the index goes on behind the 4 x 4 grid


def test_generated_clip_lets_the_model_choose_its_length() -> None:
    random = np.random.default_rng(0)
    blocks = grouping().document([picture(random, Role.GENERATE, frames=3)], random)
    pooled = [b for b in blocks if b.choice is Choice.NEXT_OR_END]
    assert [int(b.text_target) for b in pooled] == [S.NEXT_FRAME, S.NEXT_FRAME, S.EOV]
    assert [b.frame for b in pooled] == [1, 2, 3]
    assert [b.vision_target is not None for b in pooled] == [True, True, False]
    assert flat(blocks, "text")[-1] == S.EOV
    assert all(b.kind is Kind.VIDEO_GENERATE for b in pooled)


def test_generated_sound_layout() -> None:
    random = np.random.default_rng(0)
    noise = sound(random, Role.GENERATE, frames=3)
    begin, frames, end = grouping().document([noise], random)
    assert begin.text.tolist() == [S.BOS, S.BOA] and torch.equal(begin.audio_target, noise.codes[:1])
    assert torch.equal(frames.audio, noise.codes)
    assert torch.equal(frames.audio_target[:2], noise.codes[1:])
    assert (frames.audio_target[2] == CODEBOOK_SIZE).all()
    assert end.text.tolist() == [S.EOA] and end.text_target.tolist() == [S.EOS]
    assert begin.text_target.tolist() == [S.BOA, -1]


@pytest.mark.parametrize(("name", "tokens"), [("image_to_text", [4]), ("video_to_text", [4, 4, 4])])
def test_understood_media_have_no_target(name: str, tokens: list[int]) -> None:
    blocks = grouping().document(documents()[name], np.random.default_rng(0))
    read = [b for b in blocks if b.understand is not None]
    assert [len(b) for b in read] == tokens
    assert all(b.vision_target is None and b.text_target is None for b in read)
    assert all((b.group == 0).all() for b in read)
    assert S.SEP in flat(blocks, "text") and -1 in flat(blocks, "text_target")


def test_last_frame_is_repeated_to_fill_a_chunk() -> None:
    clip = documents()["video_to_text"][0]
    read = [b.understand for b in grouping().document([clip], np.random.default_rng(0)) if b.understand is not None]
    assert torch.equal(read[0].pixels, clip.pixels[:4])
    assert torch.equal(read[2].pixels, clip.pixels[8:9].expand(4, -1, -1, -1))


def test_understood_sound_reads_only() -> None:
    blocks = grouping().document(documents()["audio_to_text"], np.random.default_rng(0))
    read = next(b for b in blocks if b.kind is Kind.AUDIO_UNDERSTAND)
    assert read.audio is not None and read.audio_target is None


def test_prompt_weight_acts_on_conditioning_text_only() -> None:
    from dataclasses import replace

    light = replace(grouping(), prompt_weight=0.25)
    blocks = light.document(documents()["text_to_image"], np.random.default_rng(0))
    weights = [float(w) for b in blocks if b.text_weight is not None for w, t in zip(b.text_weight, b.text_target, strict=True) if t >= 0]
    assert weights == [0.25] * 5 + [1.0, 1.0]  # the words; BOI; EOS
    blocks = light.document(documents()["image_to_text"], np.random.default_rng(0))
    assert all(float(w) == 1.0 for b in blocks if b.text_weight is not None for w in b.text_weight)


def test_flips_change_the_history_and_the_targets_follow() -> None:
    clean = grouping().document(documents()["text_to_image"], np.random.default_rng(5))
    dirty = grouping(HistoryConfig(flip_max=0.5, frame_drop=0.0)).document(documents()["text_to_image"], np.random.default_rng(5))
    assert torch.equal(clean[0].vision_target, dirty[0].vision_target)  # scale 1 has no history inside the frame
    assert not torch.equal(clean[1].vision, dirty[1].vision)
    assert not torch.equal(clean[2].vision_target, dirty[2].vision_target)


def test_next_targets_stay_inside_runs_of_text() -> None:
    packed = batch([["text", "mixed"]], length=256)
    for i, (at, nxt) in enumerate(zip(packed.text_target_at.tolist(), packed.next_target.tolist(), strict=True)):
        if nxt < 0:
            continue
        assert packed.text_target_at[i + 1] == at + 1
        assert packed.text_target[i + 1] == nxt
        read_at = (packed.text_at == at + 1).nonzero()
        assert packed.text[read_at] == packed.text_target[i]  # the next position reads what this one predicts
    assert (packed.next_target >= 0).any()


def test_mixed_documents_begin_and_end_every_medium() -> None:
    blocks = grouping().document(documents()["mixed"], np.random.default_rng(0))
    words = flat(blocks, "text")
    for begin, end in ((S.BOI, S.EOI), (S.BOV, S.EOV), (S.BOA, S.EOA)):
        assert words.count(begin) == words.count(end) >= 1
    assert Modality.VIDEO in [segment.modality for segment in documents()["mixed"]]
