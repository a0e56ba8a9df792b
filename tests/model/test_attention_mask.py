"""The one predicate, spelled out, and its two implementations."""

import dataclasses

import pytest
import torch
from tiny_world import SMALL, batch, small_model

from ernie5.data_pipelines.history import HistoryConfig
from ernie5.model.attention_mask import DenseMask, FlexMask, Where, visible

ALL = [["text", "text_to_image", "image_to_text"], ["text_to_video", "video_to_text"], ["mixed", "text_to_audio", "audio_to_text"]]

# on CPU FlexAttention runs uncompiled, as a reference: that is what these tests want
eager_flex = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def reference(packed, window: int) -> torch.Tensor:
    """The rule of the design, position by position."""
    rows, length = packed.sample.shape
    allowed = torch.zeros(rows, length, length, dtype=torch.bool)
    for b in range(rows):
        for q in range(length):
            for k in range(length):
                sees = packed.sample[b, q] == packed.sample[b, k] and packed.group[b, k] <= packed.group[b, q]
                frames = packed.frame[b, q], packed.frame[b, k]
                if packed.segment[b, q] == packed.segment[b, k] and min(frames) >= 0 and frames[0] != frames[1]:
                    sees = sees and frames[0] - frames[1] <= window and packed.kept[b, k]
                allowed[b, q, k] = bool(sees)
    return allowed


def test_dense_mask_is_the_rule() -> None:
    packed = batch([["text_to_video", "image_to_text"], ["mixed"]], length=120, history=HistoryConfig(frame_drop=0.5))
    for window in (1, 4):
        dense = DenseMask.build(Where.of(packed), Where.of(packed), window).allowed[:, 0]
        assert torch.equal(dense, reference(packed, window))


def test_dropped_frames_and_window_act_on_generated_frames_only() -> None:
    packed = batch([["text_to_video"]], length=96)
    where = Where.of(packed)
    frames = packed.frame[0]
    late, early, text = (frames == 2).nonzero()[-1], (frames == 0).nonzero()[0], (packed.kind[0] == 0).nonzero()[0]
    at = lambda w, i: Where(*(x[0, i] for x in w))  # noqa: E731
    assert visible(at(where, late), at(where, early), window=2)
    assert not visible(at(where, late), at(where, early), window=1)
    forgotten = where._replace(kept=where.kept & (packed.frame != 0))
    assert not visible(at(where, late), at(forgotten, early), window=2)
    assert visible(at(where, late), at(forgotten._replace(kept=torch.zeros_like(where.kept)), text), window=1)
    after = (packed.sample[0] == 0).nonzero()[-1]  # the EOV token after the clip sees all frames
    assert visible(at(where, after), at(forgotten, early), window=1)


@eager_flex
def test_flex_equals_dense() -> None:
    packed = batch(ALL, history=HistoryConfig(frame_drop=0.3))
    model = small_model().eval()
    flex = small_model(dataclasses.replace(SMALL, attention="flex")).eval()
    with torch.no_grad():
        a, b = model(packed), flex(packed)
    for name in ("text", "next_text", "vision"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-5)


@eager_flex
def test_masks_build_the_same_blocks_for_a_cache() -> None:
    packed = batch([["text_to_video"]], length=96)
    where = Where.of(packed)
    tail = Where(*(x[:, 90:] for x in where))
    q, k = torch.randn(1, 2, 6, 16), torch.randn(1, 2, 96, 16)
    dense, flex = (kind.build(tail, where, 4).attend(q, k, k) for kind in (DenseMask, FlexMask))
    torch.testing.assert_close(dense, flex, rtol=1e-4, atol=1e-5)
