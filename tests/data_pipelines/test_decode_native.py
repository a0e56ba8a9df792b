"""Images that keep their own aspect and size: how large they become, that they stay whole, and that they are only read."""

from dataclasses import replace

import numpy as np
import pytest
from make_media import image_bytes, quarters
from PIL import Image

from ernie5.data_pipelines.augment import View
from ernie5.data_pipelines.decode_image import decode_image
from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.picture_crop import Crop, native_size
from ernie5.data_pipelines.roles import RolesConfig, assign_roles
from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.data_pipelines.sources import Record, open_source
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality, Role

LIMITS = MediaLimits(native_pixels=64 * 64)


@pytest.mark.parametrize(("width", "height", "expected"), [
    (64, 48, (48, 64)), (60, 40, (48, 64)), (1, 1, (16, 16)), (7, 30, (32, 16)),
    (640, 480, (48, 80)), (10_000, 1, (16, 256)), (1, 10_000, (256, 16)), (65, 65, (64, 64)), (72, 72, (64, 64)),
])
def test_sizes_are_the_nearest_multiples_within_the_bound(width, height, expected):
    size = native_size(width, height, 64 * 64, 16)
    assert (size.height, size.width) == expected


def test_no_size_is_above_the_bound_and_aspects_hold():
    random = np.random.default_rng(0)
    for width, height in np.exp(random.uniform(0, 9, (2000, 2))).astype(int).tolist():
        size = native_size(width, height, 512 * 512, 16)
        assert size.height * size.width <= 512 * 512 and size.height % 16 == size.width % 16 == 0
        assert size.height <= max(16, height + 8) and size.width <= max(16, width + 8)
        if min(size.height, size.width) >= 128:  # rounding both sides: (1 + 8 / 128) ** 2
            assert 0.87 < (size.width * height) / (size.height * width) < 1.15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_whole_picture_upright(orientation):
    picture = quarters(300, 100)
    picture[:4] = 0  # a bar at the upper edge, which a crop would lose
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    upright = Image.fromarray(picture)
    stored = upright.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_image(image_bytes(stored, "JPEG", exif=exif, quality=95), replace(LIMITS, native_pixels=10**6), native=16)
    assert pixels.shape == (1, 3, 304, 96)
    assert pixels[0, :, :2].float().mean() < 60  # the bar is there
    assert [tuple(int(v) > 127 for v in pixels[0, :, y, x]) for y, x in ((50, 3), (50, -4), (-4, 3), (-4, -4))] == [
        (True, False, False), (False, True, False), (False, False, True), (True, True, True)]


def test_a_large_jpeg_is_reduced_and_a_drawn_window_keeps_the_size():
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8)).resize((1600, 1200), Image.Resampling.BICUBIC)
    data = image_bytes(smooth, "JPEG", quality=95)
    pixels = decode_image(data, LIMITS, native=16)
    full = np.asarray(smooth.resize((80, 48), Image.Resampling.LANCZOS)).astype(int)
    assert pixels.shape == (1, 3, 48, 80) and np.abs(full - pixels[0].permute(1, 2, 0).numpy()).mean() < 2
    window = decode_image(data, LIMITS, Crop(zoom=0.5, x=0, y=0), native=16)
    assert window.shape == pixels.shape and not (window == pixels).all()


def test_images_at_their_own_size_are_only_read():
    members = (Member(Modality.TEXT, "txt", b"a word"), Member(Modality.IMAGE, "png", image_bytes(quarters(64, 32))))
    record = Record("s/t/1", members, {})
    sample = decode_record(record, LIMITS, view=View(native=16))
    assert [s.role for s in sample.segments] == [Role.GENERATE, Role.UNDERSTAND] and sample.segments[1].media.shape == (1, 3, 64, 32)
    config = RolesConfig(image=1.0)
    for number in range(20):
        (medium, text) = assign_roles(sample, np.random.default_rng(number), config).segments
        assert medium.modality is Modality.IMAGE and medium.role is Role.UNDERSTAND and text.role is Role.GENERATE
    usual = decode_record(record, LIMITS)
    assert all(s.role is Role.GENERATE for s in usual.segments) and usual.segments[1].media.shape == (1, 3, 32, 32)


def test_files_of_texts_cannot_be_native(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(ValueError, match="data.sources.a.native = true is for images"):
        open_source("a", SourceConfig(str(tmp_path / "a.jsonl"), native=True))
