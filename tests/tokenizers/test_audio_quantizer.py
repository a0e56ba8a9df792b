"""Residual quantization: nearest vectors level by level, codes free of their batch, learning that is seeded."""

import numpy as np
import pytest
import torch

from ernie5.run.random_streams import stream
from ernie5.tokenizers.audio.residual_quantizer import ResidualQuantizer, kmeans, nearest

Q, K, D = 3, 16, 4


@pytest.fixture
def quantizer() -> ResidualQuantizer:
    quantizer = ResidualQuantizer(Q, K, D)
    quantizer.initialize(torch.randn(500, D), stream(0, "start"))
    return quantizer


def test_each_level_names_the_nearest_vector_of_what_is_left(quantizer):
    latents = torch.randn(2, 5, D)
    result = quantizer(latents)
    assert result.codes.shape == (2, 5, Q) and result.codes.dtype == torch.int64
    left = latents
    for q in range(Q):
        distances = (left.unsqueeze(2) - quantizer.codebooks[q]).square().sum(-1)   # n f K
        assert torch.equal(result.codes[..., q], distances.argmin(-1))
        left = left - quantizer.codebooks[q][result.codes[..., q]]
    torch.testing.assert_close(result.values, latents - left)
    torch.testing.assert_close(result.first, quantizer.codebooks[0][result.codes[..., 0]])


def test_decode_gives_the_values_of_the_codes(quantizer):
    result = quantizer(torch.randn(2, 5, D))
    torch.testing.assert_close(quantizer.decode(result.codes), result.values)


def test_every_further_level_reduces_the_error(quantizer):
    latents = torch.randn(1, 200, D)
    codes = quantizer(latents).codes
    errors = []
    for q in range(Q):
        values = sum(quantizer.codebooks[i][codes[..., i]] for i in range(q + 1))
        errors.append(float((latents - values).square().mean()))
    assert errors[0] > errors[1] > errors[2]


def test_codes_do_not_depend_on_the_rest_of_the_batch(quantizer):
    latents = torch.randn(64, 13, D)
    together = quantizer(latents).codes
    alone = torch.cat([quantizer(latents[i:i + 1]).codes for i in range(64)])
    assert torch.equal(together, alone)
    assert torch.equal(together, quantizer(latents).codes)


def test_kmeans_finds_separate_clusters():
    centres = 10 * torch.eye(D)
    latents = centres.repeat_interleave(20, 0) + 0.1 * torch.randn(20 * D, D)
    found = kmeans(latents, D, stream(0, "clusters"))
    assert sorted(nearest(centres, found).tolist()) == list(range(D))
    assert torch.cdist(centres, found).min(1).values.max() < 0.2


def test_kmeans_of_fewer_different_latents_than_centres_stays_finite():
    found = kmeans(torch.ones(10, D), K, stream(0, "clusters"))
    torch.testing.assert_close(found, torch.ones(K, D))


def test_learning_moves_a_vector_to_the_mean_of_what_chose_it():
    quantizer = ResidualQuantizer(1, 2, 1, decay=0.5)
    quantizer.initialize(torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]), stream(0, "start"))
    latents = torch.tensor([[-1.0], [-1.0], [3.0], [3.0]])
    for step in range(20):
        quantizer.learn(latents, quantizer(latents).codes, stream(0, "restarts", step))
    torch.testing.assert_close(quantizer.codebooks[0].sort(0).values, torch.tensor([[-1.0], [3.0]]), atol=1e-3, rtol=0)


def test_a_vector_never_chosen_restarts_at_a_real_residual(quantizer):
    quantizer.codebooks[:, 0] = 1e3
    latents = torch.randn(200, D)
    restarts = 0
    for step in range(200):
        restarts += quantizer.learn(latents, quantizer(latents).codes, stream(0, "restarts", step))
    assert restarts >= Q
    assert float(quantizer.codebooks.abs().max()) < 10
    used = [len(quantizer(latents).codes[..., q].unique()) for q in range(Q)]
    assert min(used) >= 0.9 * K


def test_learning_is_a_function_of_its_stream(quantizer):
    latents = torch.randn(50, D)
    books = []
    for _ in range(2):
        copy = ResidualQuantizer(Q, K, D)
        copy.initialize(torch.randn(20, D, generator=torch.Generator().manual_seed(3)), stream(1, "start"))
        for step in range(60):
            copy.learn(latents, copy(latents).codes, stream(1, "restarts", step))
        books.append(copy.codebooks)
    assert torch.equal(*books)
    assert np.isfinite(books[0].numpy()).all()


def test_the_first_levels_alone_are_the_sum_of_their_vectors(quantizer):
    codes = quantizer(torch.randn(3, 4, D)).codes
    torch.testing.assert_close(quantizer.decode(codes[..., :1]), quantizer.codebooks[0][codes[..., 0]])
    levels = torch.tensor([1, Q, 2])
    kept = quantizer.decode_first(codes, levels)
    for i, count in enumerate(levels.tolist()):
        torch.testing.assert_close(kept[i], quantizer.decode(codes[i:i + 1, :, :count])[0])


def test_a_collapsed_codebook_recovers(quantizer):
    latents = torch.randn(400, D)
    quantizer.codebooks.copy_(quantizer.codebooks[:, :1].expand_as(quantizer.codebooks))
    quantizer.sums.copy_(quantizer.codebooks * quantizer.counts.unsqueeze(-1))
    assert len(quantizer(latents).codes[..., 0].unique()) <= 2  # rounding may break the tie
    for step in range(300):
        quantizer.learn(latents, quantizer(latents).codes, stream(0, "restarts", step))
    codes = quantizer(latents).codes
    assert min(len(codes[..., q].unique()) for q in range(Q)) >= 0.9 * K
