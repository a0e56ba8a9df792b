"""Renderers: types and ranges, the same generator gives the same medium, and the promises of their docstrings."""

import pytest
import torch

from ernie5.data_pipelines.synthetic.combinations import Combination, all_combinations
from ernie5.data_pipelines.synthetic.render_clip import render_clip
from ernie5.data_pipelines.synthetic.render_image import render_image
from ernie5.data_pipelines.synthetic.render_sound import PITCH_HZ, render_sound
from ernie5.run.random_streams import stream

RED_CIRCLE = Combination("image", ("circle", "red", "small", "top left"))
CASES = [
    (render_image, RED_CIRCLE, (1, 3, 32, 32), torch.uint8),
    (render_clip, Combination("video", ("cross", "blue", "moves up")), (9, 3, 32, 32), torch.uint8),
    (render_sound, Combination("audio", ("saw", "c6", "five")), (16640,), torch.float32),
]


@pytest.mark.parametrize(("render", "combination", "shape", "dtype"), CASES)
def test_shape_type_and_determinism(render, combination, shape, dtype):
    medium, again, other = (render(combination, stream(0, "test", i)) for i in (0, 0, 1))
    assert medium.shape == shape and medium.dtype == dtype
    assert torch.equal(medium, again) and not torch.equal(medium, other)


def test_pictures_are_crisp():
    picture = render_image(RED_CIRCLE, stream(0, "test")).float() / 255
    assert picture[0, :, 8, 8].sub(torch.tensor([0.9, 0.1, 0.1])).abs().max() < 0.08
    assert picture[0, :, 24, 24].min() > 0.85


def test_shapes_stay_inside_their_picture():
    for i, combination in enumerate(all_combinations("video")):
        clip = render_clip(combination, stream(0, "inside", i)).float() / 255
        border = torch.cat([clip[:, :, 0], clip[:, :, -1], clip[:, :, :, 0], clip[:, :, :, -1]], -1)
        assert border.min() > 0.85, combination


def test_sounds_stay_below_full_scale_and_start_and_end_in_silence():
    for i, combination in enumerate(all_combinations("audio")):
        wave = render_sound(combination, stream(0, "loudness", i))
        assert 0.3 < wave.abs().max() < 0.95
        assert wave[:160].abs().max() < 0.01 and wave[-320:].abs().max() < 0.01


def test_pitches_are_minor_thirds_from_a3_to_c6():
    assert list(PITCH_HZ.values())[0] == 220 and PITCH_HZ["a5"] == pytest.approx(880) and PITCH_HZ["c6"] == pytest.approx(1046.5, abs=0.1)
