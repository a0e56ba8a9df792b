"""The stream of batches: the same for any world size, exact on resume, and it survives damaged samples."""

import numpy as np
import pytest
import torch
from tiny_world import WIDTHS, grouping, quantizer

from ernie5.data_pipelines.encode import Encoder, Tokenizers
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.data_pipelines.loader import BatchShape, Loader, LoaderState, SampleMaker
from ernie5.data_pipelines.mixture import Mixture
from ernie5.data_pipelines.packing import Packer, cut
from ernie5.data_pipelines.roles import RolesConfig, assign_roles
from ernie5.sequence import Modality, Role, Sample, Segment
from ernie5.tokenizers.base import VisionCodes

SIZES = {"image": 12, "text": 7, "bad": 3}


class FakeText:
    modality = Modality.TEXT

    def encode(self, media: str) -> torch.Tensor:
        return torch.tensor([12 + ord(c) % 40 for c in media])


class FakeVision:
    modality = Modality.IMAGE
    quantizer = quantizer()

    def encode(self, media: torch.Tensor) -> VisionCodes:
        random = np.random.default_rng(int(media.sum()))
        draw = lambda *shape: torch.from_numpy(random.standard_normal(shape, dtype=np.float32))  # noqa: E731
        return VisionCodes(draw(1, 8, 4, 4), draw(1, 6, 4, 4))


def read(source: str, index: int) -> Sample:
    if source == "bad" and index == 1:
        raise ValueError("cut short")
    words = Segment(Modality.TEXT, f"{source} number {index}")
    if source != "image":
        return Sample(f"{source}/{index}", (words,), {})
    pixels = torch.full((1, 3, 32, 32), index, dtype=torch.uint8)
    return Sample(f"{source}/{index}", (words, Segment(Modality.IMAGE, pixels)), {})


def loader(rank: int = 0, world_size: int = 1, rejected: list | None = None) -> Loader:
    rejected = [] if rejected is None else rejected
    maker = SampleMaker(
        read, lambda key, reason: rejected.append((key, reason)), lambda: None, Encoder(Tokenizers(FakeText(), FakeVision(), None)),
        grouping(HistoryConfig()), RolesConfig(), seed=5,
    )
    return Loader(maker, Mixture(SIZES, {"image": 2.0, "text": 1.0, "bad": 0.5}, seed=5), WIDTHS, rank, world_size)


SHAPE = BatchShape(4, 64, 2)


def test_ranks_share_one_stream() -> None:
    alone, pair = loader(), [loader(0, 2), loader(1, 2)]
    for _ in range(4):
        whole = alone.next(SHAPE)
        halves = [one.next(SHAPE) for one in pair]
        assert halves[0].sample_ids == halves[1].sample_ids == whole.sample_ids
        both = [packed for half in halves for packed in half.micro_batches]
        for a, b in zip(whole.micro_batches, both, strict=True):
            assert torch.equal(a.text, b.text) and torch.equal(a.vision, b.vision) and a.sample_ids == b.sample_ids


@pytest.mark.parametrize("k", [1, 3])
def test_resume_is_exact(k: int) -> None:
    whole = loader()
    expected = [whole.next(SHAPE, SHAPE) for _ in range(6)]  # with a batch prepared ahead
    first = loader()
    for _ in range(k):
        state = first.next(SHAPE, SHAPE).state
    second = loader()
    second.restore(LoaderState.from_json(state.to_json()))
    for batch in expected[k:]:
        again = second.next(SHAPE)
        assert again.sample_ids == batch.sample_ids and again.state == batch.state
        assert all(torch.equal(a.vision, b.vision) for a, b in zip(again.micro_batches, batch.micro_batches, strict=True))
    for one in (whole, first, second):
        one.close()


def test_a_change_of_shape_loses_no_sample() -> None:
    guessed, plain = loader(), loader()
    guessed.next(SHAPE, SHAPE)  # a batch of the old shape is being made
    plain.next(SHAPE)
    assert guessed.next(BatchShape(2, 128, 2)).sample_ids == plain.next(BatchShape(2, 128, 2)).sample_ids
    guessed.close()


def test_every_drawn_sample_is_used_waits_or_was_rejected() -> None:
    rejected: list = []
    stream, num_used, left_over = loader(rejected=rejected), 0, 0
    for _ in range(30):
        offered = len(stream.state.waiting)
        batch = stream.next(BatchShape(1, 40, 1))  # short rows fill up before all that waits was offered again
        num_used += len(batch.sample_ids)
        assert num_used + len(batch.state.waiting) + len(rejected) == batch.state.drawn
        left_over = max(left_over, offered - stream.stream._num_read)
    assert left_over and len(set(batch.state.waiting)) == len(batch.state.waiting)


def test_an_epoch_draws_every_sample_once() -> None:
    mixture = Mixture({"a": 9, "b": 4}, {"a": 1.0, "b": 1.0}, seed=1)
    seen: dict[str, list[int]] = {"a": [], "b": []}
    while min(len(seen["a"]) / 9, len(seen["b"]) / 4) < 2:
        draw = mixture.draw()
        seen[draw.source].append(draw.place)
    assert sorted(seen["a"][:18]) == sorted(list(range(9)) * 2)
    assert sorted(seen["b"][:8]) == sorted(list(range(4)) * 2)


def test_mixture_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="data.sources.a holds no sample"):
        Mixture({"a": 0}, {"a": 1.0}, seed=0)


def test_damaged_samples_are_reported_and_replaced() -> None:
    rejected: list = []
    stream = loader(rejected=rejected)
    ids = [i for _ in range(20) for i in stream.next(SHAPE).sample_ids]
    assert ("bad/1", "cut short") in rejected
    assert "bad/1" not in ids and "bad/0" in ids


def test_rows_are_full_and_nothing_is_split() -> None:
    stream = loader()
    used = [int((p.sample >= 0).sum()) for _ in range(10) for p in stream.next(SHAPE).micro_batches]
    assert sum(used) / (10 * 4 * 64) > 0.85


def test_too_long_documents_are_cut_at_a_group() -> None:
    from tiny_world import packed_sample

    sample = packed_sample("mixed")
    for length in (1, 5, 9, 40, 10_000):
        short = cut(sample, length)
        assert len(short) <= length and len(short) == len(sample) or len(short) < len(sample)
        packer: Packer = Packer(1, length)
        packer.offer(short, len(short))
        assert packer.rows[0] == [short]


def test_roles_are_a_function_of_the_stream() -> None:
    sample, config = read("image", 1), RolesConfig(image=0.5, condition_drop=0.2)
    kinds = set()
    for i in range(64):
        once, again = (assign_roles(sample, np.random.default_rng(i), config) for _ in range(2))
        assert [s.role for s in once.segments] == [s.role for s in again.segments]
        kinds.add(tuple((s.modality, s.role) for s in once.segments))
    words, image = (Modality.TEXT, Role.GENERATE), Modality.IMAGE
    assert kinds == {(words, (image, Role.GENERATE)), ((image, Role.UNDERSTAND), words), ((image, Role.GENERATE),)}


def test_a_stage_changes_the_mixture() -> None:
    stream = loader()
    for _ in range(3):
        stream.next(SHAPE)
    text_only = SHAPE._replace(weights=(("image", 0.0), ("bad", 0.0)))
    stream.next(text_only)  # what was waiting goes first
    ids = [i for _ in range(3) for i in stream.next(text_only).sample_ids]
    assert ids and all(i.startswith("text/") for i in ids)
    assert any(i.startswith("image/") for _ in range(3) for i in stream.next(SHAPE).sample_ids)
