"""Coordinates and rotation of Uni-RoPE."""

import torch

from ernie5.uni_rope import grid_coords, index_after, line_coords, rotate, rotation


def test_text_stands_on_the_diagonal() -> None:
    coords = line_coords(3, 2)
    assert coords.tolist() == [[3, 3, 3], [4, 4, 4]]
    assert index_after(coords) == 5


def test_scales_share_extent_and_centre() -> None:
    for scale in (1, 2, 4):
        coords = grid_coords(10, 2, (4, 4), (scale, scale))
        assert coords.shape == (scale * scale, 3)
        assert torch.equal(coords[:, 0], torch.full((scale * scale,), 12.0))
        torch.testing.assert_close(coords[:, 1:].mean(0), torch.tensor([11.5, 11.5]))
    assert grid_coords(10, 0, (4, 4), (4, 4))[1].tolist() == [10, 10, 11]  # row-major: w runs fastest
    assert grid_coords(10, 0, (4, 4), (1, 1)).tolist() == [[10, 11.5, 11.5]]


def test_grid_cache_is_not_changed_by_callers() -> None:
    first = grid_coords(10, 5, (4, 4), (2, 2))
    assert torch.equal(grid_coords(10, 5, (4, 4), (2, 2)), first)


def test_scores_depend_on_differences_only() -> None:
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def score(at_q: torch.Tensor, at_k: torch.Tensor) -> torch.Tensor:
        turn = lambda x, at: rotate(x, rotation(at.view(1, 1, 3), 16, 100.0))  # noqa: E731
        return (turn(q, at_q) * turn(k, at_k)).sum()

    a, b, shift = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 1.0, 0.0]), torch.tensor([7.0, 5.0, 2.0])
    torch.testing.assert_close(score(a + shift, b + shift), score(a, b))
    assert not torch.allclose(score(a + shift, b), score(a, b))


def test_every_axis_turns_something_and_shares_are_those_of_the_decision() -> None:
    still = rotation(torch.zeros(1, 1, 3), 64, 100.0)
    for axis, pairs in ((0, 10), (1, 11), (2, 11)):
        at = torch.zeros(1, 1, 3)
        at[..., axis] = 1.0
        turned = (rotation(at, 64, 100.0) != still).sum()
        assert turned == pairs
