"""Windows of media of any size: what a step sees is a function of the step; whatever the size, the wanted one comes out."""

import pytest
import torch

from ernie5.tokenizers.vision.windows import FirstFrames, MemoryPool, Window, WindowBatches, WindowConfig


def ramp(h: int, w: int, t: int = 1) -> torch.Tensor:
    """Red grows downwards, green to the right."""
    rows, columns = torch.arange(h).view(h, 1).expand(h, w), torch.arange(w).expand(h, w)
    return torch.stack([rows, columns, torch.zeros(h, w)]).to(torch.uint8).expand(t, 3, h, w)


CONFIG = WindowConfig(sizes=((8, 8), (8, 16)), zoom=(0.5, 1.0), mirror=False)
POOL = MemoryPool([ramp(40, 60), ramp(100, 30), ramp(9, 9)])


def batches(pool=POOL, seed: int = 0) -> WindowBatches:
    return WindowBatches(pool, CONFIG, CONFIG.sizes, 4, seed=seed, purpose="test")


def test_a_step_is_a_function_of_seed_and_number():
    drawn = [batches().draw(step) for step in range(6)]
    assert all(torch.equal(a, batches().draw(step)) for step, a in enumerate(drawn))
    assert not torch.equal(batches(seed=1).draw(0), drawn[0])
    shapes = {tuple(batches().draw(step).shape) for step in range(20)}
    assert shapes == {(4, 1, 3, 8, 8), (2, 1, 3, 8, 16)}  # twice the pixels, half as many


@pytest.mark.parametrize("medium, window, part", [
    ((40, 60), Window(8, 8), (0, 10, 40, 40)),
    ((40, 60), Window(8, 8, 0.5, 0.0, 1.0), (20, 0, 20, 20)),
    ((40, 60), Window(8, 8, 0.01, 1.0, 0.0), (0, 52, 8, 8)),   # never enlarged
    ((4, 60), Window(8, 8), (0, 28, 4, 4)),                    # but where there is no more
    ((1, 10_000), Window(8, 16), (0, 4999, 1, 2)),
    ((1, 1), Window(8, 8), (0, 0, 1, 1)),
])
def test_the_window_is_the_part_that_was_asked_for(medium, window, part):
    assert window.part(*medium) == part


def test_pixels_come_from_their_places():
    found = MemoryPool([ramp(40, 60)]).window(0, Window(8, 8, 0.2, 0.5, 0.25))
    assert found.tolist() == ramp(40, 60)[..., 8:16, 26:34].tolist()
    mirrored = MemoryPool([ramp(40, 60)]).window(0, Window(8, 8, 0.2, 0.5, 0.25, mirror=True))
    assert torch.equal(mirrored.flip(-1), found)
    tall = MemoryPool([ramp(40, 60)]).window(0, Window(8, 16))
    assert tall.shape == (1, 3, 8, 16) and (tall[0, 0, 7, 0] - tall[0, 0, 0, 0]) in (25, 26, 27)


class Gaps(MemoryPool):
    """Every second number holds nothing."""

    def window(self, index, window):
        return None if index % 2 else super().window(index, window)


def test_numbers_without_a_medium_are_drawn_again():
    gaps = batches(Gaps([ramp(20, 20), ramp(1, 1)]))
    assert gaps.draw(3).shape[0] in (2, 4) and torch.equal(gaps.draw(3), gaps.draw(3)) and gaps.draw(3).max() > 0

    class Nothing(MemoryPool):
        def window(self, index, window):
            return None

    with pytest.raises(ValueError, match="draws in a row found nothing"):
        batches(Nothing([ramp(1, 1)])).draw(0)


def test_clips_are_cut_to_the_shortest_and_give_first_frames():
    clips = MemoryPool([ramp(20, 20, 9), ramp(20, 20, 5)])
    assert {len(x) for step in range(8) for x in batches(clips).draw(step)} == {5, 9}
    assert batches(FirstFrames(clips)).draw(0).shape[1] == 1


def test_ranges_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="windows.zoom"):
        WindowConfig(zoom=(0.0, 1.0))
    with pytest.raises(ValueError, match="name one size or more"):
        WindowConfig(sizes=())
    with pytest.raises(ValueError, match="windows.clip_sizes has 100 x 128.*96 x 128"):
        WindowConfig(clip_sizes=((100, 128),)).check(16, 4)
