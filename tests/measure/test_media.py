"""Media for measuring: exact pixels, sizes in whole strides, damaged files listed and not fatal."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from ernie5.data_pipelines.media_limits import MediaLimits, VisionSize
from ernie5.data_pipelines.synthetic.encode_media import encode_mp4
from ernie5.measure.media import MediaSet, Shape
from ernie5.sequence import Modality

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
PICTURES = {Modality.IMAGE}


def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def opened(path) -> MediaSet:
    media = MediaSet(MediaLimits())
    media.add_path(str(path))
    return media


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.png").write_bytes(png(PIXELS))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "c.png").write_bytes(png(PIXELS[:5]))
    (tmp_path / "d.txt").write_text("hello")
    (tmp_path / "e.xyz").write_text("?")
    return tmp_path


def test_native_pictures_are_cut_at_the_centre_and_never_filtered(folder):
    media = opened(folder)
    found = list(media.media(PICTURES, Shape(stride=8), 10))
    assert [m.name for m in found] == ["a.png"]
    cut = torch.from_numpy(PIXELS[2:34, 1:49]).permute(2, 0, 1)[None]  # 37 x 50 -> 32 x 48
    assert torch.equal(found[0].media, cut)
    reasons = dict(media.rejected.reasons)
    assert set(reasons) == {"bad.png", "c.png", "e.xyz"}
    assert "no cell of stride 8" in reasons["c.png"] and "unknown bytes" in reasons["bad.png"] and "not read" in reasons["e.xyz"]


def test_large_pictures_are_shrunk_and_sizes_can_be_given(folder):
    assert next(iter(opened(folder).media(PICTURES, Shape(longest=25, stride=8), 1))).media.shape == (1, 3, 16, 24)
    assert next(iter(opened(folder).media(PICTURES, Shape(VisionSize(16, 40)), 1))).media.shape == (1, 3, 16, 40)


def test_native_clips(tmp_path):
    frames = torch.from_numpy(np.random.default_rng(1).integers(0, 2, (10, 3, 36, 52), dtype=np.uint8)) * 9
    frames[:, 0] += 20 * torch.arange(10, dtype=torch.uint8)[:, None, None]
    (tmp_path / "clip.mp4").write_bytes(encode_mp4(frames, 8))
    found = next(iter(opened(tmp_path).media({Modality.VIDEO}, Shape(stride=16, temporal_stride=3), 1)))
    assert found.media.shape == (7, 3, 32, 48)  # 9 frames of the limits, as 1 + 2 x 3
    wanted = frames[:7, :, 2:34, 2:50].float()
    assert (found.media.float() - wanted).abs().mean() < 3
    assert (found.media[:, 0].float().mean((1, 2)) - wanted[:, 0].mean((1, 2))).abs().max() < 3
    (tmp_path / "clip.mp4").write_bytes(b"#EXTM3U\nhttp://localhost/x.mp4")
    media = opened(tmp_path)
    assert not list(media.media({Modality.VIDEO}, Shape(), 1)) and "not an MP4" in media.rejected.reasons[0][1]


def test_one_file_and_other_kinds(folder):
    assert [m.media for m in opened(folder / "d.txt").media({Modality.TEXT}, Shape(), 5)] == ["hello"]
    assert not list(opened(folder / "d.txt").media(PICTURES, Shape(), 5))
    assert opened(folder / "d.txt").rejected.reasons == []
    with pytest.raises(ValueError, match="nowhere"):
        opened(folder / "nowhere")


def test_a_turned_photo_has_its_upright_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    found = next(iter(opened(tmp_path).media(PICTURES, Shape(stride=1), 1)))
    assert torch.equal(found.media[0], torch.from_numpy(np.rot90(PIXELS, -1).copy()).permute(2, 0, 1))


def test_damaged_ones_are_replaced_by_others(tmp_path):
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(png(PIXELS) if i % 2 else b"bad")
    media = opened(tmp_path)
    assert sorted(m.name for m in media.media(PICTURES, Shape(), 3)) == ["1.png", "3.png", "5.png"]
    assert len(media.rejected.reasons) == 3
