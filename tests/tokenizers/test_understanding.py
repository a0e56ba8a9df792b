"""The understanding encoder: packs of pictures and chunks of any size, both paths, and what is refused."""

import dataclasses

import pytest
import torch
from torch import Tensor

from ernie5.data_pipelines.collate import PackedSample, Widths, collate
from ernie5.sequence import Kind, ReadSize, TokenGroups, UnderstandBatch, UnderstandRead
from ernie5.tokenizers.vision.frame_attention import FrameBuckets, FrameMask, rounded
from ernie5.tokenizers.vision.mlp_merger import MlpMerger
from ernie5.tokenizers.vision.understanding import Pack, UnderstandingConfig, UnderstandingEncoder, squares_of

SIZES = UnderstandingConfig(patch=4, dim=16, num_layers=2, num_heads=2)
MIXED = [(1, 4, 4), (4, 2, 6), (1, 3, 5), (1, 1, 1), (1, 4, 4), (4, 3, 3), (1, 40, 1), (1, 5, 7), (1, 1, 34)]  # frames, rows, columns


@pytest.fixture(params=[("attention", "sines"), ("mlp", "sines"), ("attention", "rope")], ids=lambda p: "-".join(p))
def encoder(request) -> UnderstandingEncoder:
    torch.manual_seed(0)
    return UnderstandingEncoder(dataclasses.replace(SIZES, merger=request.param[0], positions=request.param[1]), feature_dim=6, out_dim=10)


def media(f: int, h: int, w: int, seed: int = 0) -> UnderstandRead:
    generator = torch.Generator().manual_seed(1000 * seed + 100 * f + 10 * h + w)
    pixels = torch.randint(0, 256, (f, 3, 4 * h, 4 * w), generator=generator, dtype=torch.uint8)
    return UnderstandRead(pixels, torch.randn(f, 6, h, w, generator=generator))


def packed(reads: list[UnderstandRead], pack: bool = True) -> tuple[UnderstandBatch, ...]:
    """What a batch makes of these reads, the whole way through collating."""
    blocks = []
    for number, read in enumerate(reads):
        size = -(-read.features.shape[2] // 2) * -(-read.features.shape[3] // 2)
        group, coords = torch.zeros(size, dtype=torch.int64), torch.zeros(size, 3)
        blocks.append(TokenGroups(number, Kind.IMAGE_UNDERSTAND, group, coords, understand=read))
    sample = PackedSample("x", blocks)
    return collate([[sample]], max(1, len(sample)), Widths(8, 2, 6, 4, pack)).understand


def tokens_of(encoder: UnderstandingEncoder, *reads: UnderstandRead) -> Tensor:
    (batch,) = packed(list(reads))
    return encoder(batch)


@pytest.mark.parametrize("f, h, w, tokens", [(1, 4, 4, 4), (4, 4, 4, 4), (1, 2, 6, 3), (1, 3, 5, 6), (4, 1, 1, 1), (1, 1, 1, 1),
                                             (1, 1, 300, 150)])
def test_four_or_sixteen_patches_become_one_token(encoder, f, h, w, tokens):
    assert tokens_of(encoder, media(f, h, w), media(f, h, w, 1)).shape == (2 * tokens, 10)


def test_a_pack_is_each_picture_alone_forward_and_backward(encoder):
    reads = [media(*size, seed) for seed, size in enumerate(MIXED)]
    weights = torch.randn(10, generator=torch.Generator().manual_seed(1))
    (batch,) = packed(reads)
    together = encoder(batch)
    (together.square() @ weights).sum().backward()
    gradients = {name: p.grad.clone() for name, p in encoder.named_parameters()}
    encoder.zero_grad()
    alone = [tokens_of(encoder, read) for read in reads]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)
    for tokens in alone:
        (tokens.square() @ weights).sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad.abs().sum() > 0
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-5, atol=1e-5 * float(p.grad.abs().max().clamp_min(1)), msg=name)


def test_a_pack_is_one_batch_per_size(encoder):
    reads = [media(*size, seed) for seed, size in enumerate(MIXED)]
    (batch,), by_size = packed(reads), packed(reads, pack=False)
    assert len(by_size) == len(set(MIXED)) and sum(len(b.sizes) for b in by_size) == len(reads)
    with torch.no_grad():
        filled = torch.zeros(len(batch.positions), 10)
        for part in by_size:
            filled[part.positions] = encoder(part)
        torch.testing.assert_close(encoder(batch), filled[batch.positions], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [(16,) * 5, (1, 40, 16, 16, 15, 35, 7), (3,), (), (64, 1)])
def test_buckets_attend_as_the_dense_mask_forward_and_backward(lengths):
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(sum(lengths), 2, 8, generator=generator) for _ in range(4)]
    found = []
    for attention in (FrameBuckets, FrameMask):
        inputs = [x.clone().requires_grad_() for x in values[:3]]
        out = attention.of(lengths, torch.device("cpu")).attend(*inputs)
        found.append((out.detach(), *torch.autograd.grad((out * values[3]).sum(), inputs)))
    for fast, reference in zip(*found, strict=True):
        torch.testing.assert_close(fast, reference, rtol=1e-5, atol=1e-5)


def test_buckets_pad_a_quarter_at_most_and_equal_lengths_not_at_all():
    lengths = [int(x) for x in torch.randint(1, 4097, (200,), generator=torch.Generator().manual_seed(0))]
    buckets = FrameBuckets.of(tuple(lengths), torch.device("cpu")).buckets
    assert sum(b.index.numel() for b in buckets) < 1.25 * sum(lengths)
    assert len(buckets) <= 44  # four to an octave, from 1 to 4096
    assert all(n <= rounded(n) <= 1.25 * n for n in range(1, 5000))
    (only,) = FrameBuckets.of((12,) * 7, torch.device("cpu")).buckets
    assert only.mask is None and torch.equal(only.index.flatten(), torch.arange(84))


def test_an_empty_batch_gives_every_weight_a_gradient_of_zeros(encoder):
    (batch,) = packed([])
    assert batch.sizes == ()
    tokens = encoder(batch)
    assert tokens.shape == (0, 10)
    tokens.sum().backward()
    assert all(p.grad is not None and torch.count_nonzero(p.grad) == 0 for p in encoder.parameters())


@pytest.mark.parametrize("f", [1, 4])
def test_both_paths_learn(encoder, f):
    tokens_of(encoder, media(f, 4, 4), media(f, 4, 4, 1)).square().sum().backward()
    merger = encoder.merger
    if isinstance(merger, MlpMerger):
        by_slot = merger.mix.weight.grad.unflatten(1, (merger.num_slots, -1)).transpose(0, 1)
    else:
        by_slot = merger.slots.grad.transpose(0, 1)
    assert torch.count_nonzero(by_slot[4 * f:]) == 0 and all(torch.count_nonzero(slot) > 0 for slot in by_slot[:4 * f])
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_tokens_come_in_row_major_order():
    squares = squares_of(1, 4, 6)
    assert squares[0].tolist() == [0, 1, 6, 7] and squares[1].tolist() == [2, 3, 8, 9] and squares[3].tolist() == [12, 13, 18, 19]
    assert squares_of(4, 2, 2).tolist() == [list(range(16))]  # frame by frame


def test_odd_grids_repeat_their_edge():
    assert squares_of(1, 3, 3)[1].tolist() == [2, 2, 5, 5] and squares_of(1, 3, 3)[3].tolist() == [8, 8, 8, 8]
    assert squares_of(1, 1, 1).tolist() == [[0, 0, 0, 0]]


def test_tokens_of_images_and_chunks_keep_their_order():
    sizes = (ReadSize(4, 2, 4, 2), ReadSize(1, 2, 2, 1), ReadSize(4, 2, 2, 1))
    pack = Pack.of(sizes, 4, torch.device("cpu"))
    assert [len(squares) for squares in pack.squares] == [1, 3] and pack.back.tolist() == [1, 2, 0, 3]
    assert pack.squares[0].tolist() == [[32, 33, 34, 35]] and pack.places[:5].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0]]


def test_a_token_depends_on_the_pixels_of_its_whole_frame_and_features_of_its_own_patches(encoder):
    read, beside = media(1, 4, 4), media(1, 4, 4, 1)
    with torch.no_grad():
        before = tokens_of(encoder, read, beside)
        changed, other = read.features.clone(), read.pixels.clone()
        changed[..., 3, 3] += 1
        other[..., -1, -1] = 255 - other[..., -1, -1]
        moved = (tokens_of(encoder, dataclasses.replace(read, features=changed), beside) - before).abs().amax(1)
        seen = (tokens_of(encoder, dataclasses.replace(read, pixels=other), beside) - before).abs().amax(1)
    assert moved[3] > 1e-4 and (moved[:3] == 0).all() and (seen[:4] > 1e-7).all()
    assert (moved[4:] == 0).all() and (seen[4:] == 0).all()


@pytest.mark.parametrize("positions", ["sines", "rope"])
def test_the_vit_knows_rows_from_columns(positions):
    torch.manual_seed(0)
    encoder = UnderstandingEncoder(dataclasses.replace(SIZES, positions=positions), feature_dim=6, out_dim=10)
    read = media(1, 4, 4)
    turned = UnderstandRead(read.pixels.transpose(2, 3).contiguous(), read.features)
    plain = UnderstandRead(torch.zeros_like(read.pixels), read.features * 0)
    plain.pixels[..., :4] = 255  # a bar of one column
    bar = UnderstandRead(plain.pixels.transpose(2, 3).contiguous(), plain.features)
    with torch.no_grad():
        assert not torch.allclose(tokens_of(encoder, read).mean(0), tokens_of(encoder, turned).mean(0), atol=1e-4)
        assert not torch.allclose(tokens_of(encoder, plain).sort(0)[0], tokens_of(encoder, bar).sort(0)[0], atol=1e-5)


def test_reads_are_selected_whole():
    (batch,) = packed([media(*size, seed) for seed, size in enumerate(MIXED)])
    (expected,) = packed([media(*MIXED[1], 1), media(*MIXED[3], 3)])
    keep = [number in (1, 3) for number in range(len(MIXED))]
    some = batch.select(keep)
    assert some.sizes == expected.sizes and torch.equal(some.patches, expected.patches) and torch.equal(some.features, expected.features)
    assert some.positions.tolist() == [4, 5, 6, 13] and batch.select([False] * len(MIXED)).patches.shape == (0, 3, 4, 4)


def test_mistakes_are_named(encoder):
    with pytest.raises(ValueError, match="1 .image. or 4"):
        tokens_of(encoder, media(2, 4, 4))
    read = media(1, 4, 4)
    with pytest.raises(ValueError, match="do not fit pixels"):
        tokens_of(encoder, UnderstandRead(read.pixels, read.features[..., :3]))
    with pytest.raises(ValueError, match="understanding.patch = 4"):
        encoder(UnderstandBatch(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 6), torch.zeros(1), (ReadSize(1, 1, 1, 1),)))
    with pytest.raises(ValueError, match="multiple of 4"):
        UnderstandingConfig(dim=18)
    with pytest.raises(ValueError, match="rope turns pairs"):
        UnderstandingConfig(dim=24, num_heads=4, positions="rope")


def test_every_layer_runs_equally_often_whatever_is_in_the_batch(encoder):
    """Where weights are gathered when a layer runs (ZeRO 3), a rank that ran one more often would wait for the others."""
    counts = []
    for reads in ([], [media(1, 2, 2)], [media(4, 2, 2)], [media(*size, seed) for seed, size in enumerate(MIXED)]):
        calls = []
        hooks = [module.register_forward_hook(lambda *_, name=name, to=calls: to.append(name)) for name, module in encoder.named_modules()]
        tokens_of(encoder, *reads)
        counts.append(calls)
        for hook in hooks:
            hook.remove()
    assert all(calls == counts[0] for calls in counts)
