"""Augmentation: what each of it does to real media, that a view is a function of its draw, and that nothing happens by default."""

import itertools

import numpy as np
import pytest
import torch
from make_media import clip_bytes, image_bytes, quarters, sound_bytes
from PIL import Image, JpegImagePlugin

from ernie5.config import load_config
from ernie5.data_pipelines.augment import PLAIN, AugmentConfig, CropConfig, one_caption
from ernie5.data_pipelines.decode_audio import decode_audio
from ernie5.data_pipelines.decode_image import decode_image
from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.decode_video import decode_video
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, VisionSize
from ernie5.data_pipelines.picture_crop import CENTRE, Crop, fit, nearest
from ernie5.data_pipelines.sources import Record
from ernie5.data_pipelines.write_shards import Member
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality, Segment

LIMITS = MediaLimits(audio_seconds=0.4)
ALL = AugmentConfig(CropConfig((0.3, 1.0), (0.8, 1.25)), 0.2, True, (VisionSize(24, 48), VisionSize(48, 24)))
WORDS = (Member(Modality.TEXT, "txt", b"four quarters"), Member(Modality.TEXT, "txt", b"red, green, blue, white"))


def view_of(config, number):
    return config.view(stream(0, "augment", number))


def ramps(height, width):
    """A picture whose pixels say where they are: red the row, green the column, both in 0..255."""
    rows = np.linspace(0, 255, height).round().astype(np.uint8)[:, None].repeat(width, 1)
    columns = np.linspace(0, 255, width).round().astype(np.uint8)[None].repeat(height, 0)
    return np.stack([rows, columns, np.zeros_like(rows)], -1)


def test_nothing_happens_by_default():
    assert not AugmentConfig().on and not AugmentConfig().draws and view_of(AugmentConfig(), 7) == PLAIN
    assert ALL.on and ALL.draws and ALL.changes_lengths and not AugmentConfig(CropConfig()).changes_lengths
    assert not AugmentConfig(aspect_buckets=ALL.aspect_buckets).draws


@pytest.mark.parametrize(("height", "width", "aspect"), [(48, 64, 1.0), (64, 48, 1.0), (50, 71, 1.3), (71, 50, 0.7)])
def test_without_a_crop_the_pixels_are_those_of_the_centre(height, width, aspect):
    image, size = Image.fromarray(ramps(height, width)), VisionSize(24, 40)
    kept_width = min(width * aspect, height * size.width / size.height) / aspect
    kept_height = min(height, width * aspect * size.height / size.width)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    box = (left, top, min(left + kept_width, width), min(top + kept_height, height))
    expected = image.resize((size.width, size.height), Image.Resampling.LANCZOS, box=box)
    assert fit(image, size, aspect).tobytes() == expected.tobytes()


def test_a_view_is_a_function_of_its_draw():
    sizes, picture = MediaLimits(), image_bytes(quarters(40, 90))
    records = [Record("s/t/0", (*WORDS, member), {}) for member in (
        Member(Modality.IMAGE, "png", picture), Member(Modality.AUDIO, "wav", sound_bytes(seconds=0.6)))]
    for record in records:
        views = [decode_record(record, sizes, view=view_of(ALL, n)) for n in range(12)]
        again = [decode_record(record, sizes, view=view_of(ALL, n)) for n in reversed(range(12))][::-1]
        for a, b in zip(views, again, strict=True):
            assert a.segments[0] == b.segments[0] and torch.equal(a.segments[1].media, b.segments[1].media)
        assert len({v.segments[1].media.numpy().tobytes() for v in views}) == 12
        assert {v.segments[0].media for v in views} == {"four quarters", "red, green, blue, white"}


def test_switching_one_on_changes_no_other():
    for number in range(20):
        alone, both = view_of(AugmentConfig(speed=0.2), number), view_of(ALL, number)
        assert alone.speed == both.speed and view_of(AugmentConfig(ALL.crop), number).crop == both.crop
        assert view_of(AugmentConfig(caption=True), number).caption == both.caption


def test_a_crop_is_a_window_of_the_picture():
    height, width, size = 80, 120, MediaLimits(image_size=VisionSize(32, 32))
    config, areas = AugmentConfig(CropConfig((0.25, 1.0))), []
    for number in range(60):
        crop = view_of(config, number).crop
        side = height * crop.zoom                                      # the largest square is as high as the picture
        left, top = (width - side) * crop.x, (height - side) * crop.y
        assert left >= 0 and top >= 0 and left + side <= width + 1e-9 and top + side <= height + 1e-9
        found = decode_image(image_bytes(ramps(height, width)), size, crop)[0].float()
        middle = (torch.arange(32) + 0.5) * side / 32 - 0.5                 # of every pixel of the result, in pixels of the picture
        rows, columns = (middle + top) / (height - 1) * 255, (middle + left) / (width - 1) * 255
        inner = slice(2, -2)                                            # a filter sees the border
        assert (found[0].mean(1) - rows)[inner].abs().max() < 2 and (found[1].mean(0) - columns)[inner].abs().max() < 2
        areas.append(crop.zoom**2)
    assert min(areas) < 0.35 and max(areas) > 0.9 and min(areas) >= 0.25


def test_aspect_stretches_within_its_range_and_the_window_stays_inside():
    config = AugmentConfig(CropConfig((1.0, 1.0), (0.5, 2.0)))
    stretches = [view_of(config, n).crop.stretch for n in range(200)]
    assert 0.5 <= min(stretches) < 0.55 and 1.85 < max(stretches) <= 2.0 and abs(np.mean(np.log(stretches))) < 0.1
    for stretch in (0.5, 2.0):                                          # of a square picture: half of a side, and all of the other
        found = decode_image(image_bytes(ramps(64, 64)), LIMITS, Crop(1.0, stretch, 0.0, 0.0))[0].float()
        assert abs(float(found[0, -1].mean()) - (255 if stretch < 1 else 126)) < 4
        assert abs(float(found[1, :, -1].mean()) - (255 if stretch > 1 else 126)) < 4


def test_a_turned_picture_is_cropped_as_people_see_it():
    upright = Image.fromarray(ramps(64, 64))
    exif = Image.Exif()
    exif[0x0112] = 6                                                    # stored on its side
    stored = image_bytes(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    for stretch in (0.5, 2.0):
        plain, turned = (decode_image(data, LIMITS, Crop(1.0, stretch)) for data in (image_bytes(upright), stored))
        assert (plain.int() - turned.int()).abs().max() <= 1


def test_a_large_jpeg_is_decoded_as_large_as_the_window_needs(monkeypatch):
    scales = []
    draft = JpegImagePlugin.JpegImageFile.draft

    def noting(self, mode, size):
        found = draft(self, mode, size)
        scales.append(self.decoderconfig[0] if self.decoderconfig else 1)
        return found

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", noting)
    photo = image_bytes(ramps(1024, 1024), "JPEG", quality=95)
    crops = (CENTRE, Crop(0.5), Crop(0.25), Crop(0.1))
    pictures = [decode_image(photo, MediaLimits(image_size=VisionSize(64, 64)), crop) for crop in crops]
    assert scales == [8, 4, 2, 1] and len({p.numpy().tobytes() for p in pictures}) == 4
    assert decode_image(photo, LIMITS, sizes=(VisionSize(128, 64),)).shape == (1, 3, 32, 32) and scales[-1] == 4


def test_a_clip_is_cropped_alike_in_every_frame():
    data = clip_bytes([i / 8 for i in range(10)], pixels=quarters())
    for (x, y), colour in zip(itertools.product((0, 1), (0, 1)), [(255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255)], strict=True):
        clip = decode_video(data, LIMITS, Crop(0.4, 1.0, x, y))
        wrong = (clip.int() - torch.tensor(colour).view(1, 3, 1, 1)).abs()
        assert clip.shape == (9, 3, 32, 32) and wrong[..., 4:-4, 4:-4].max() < 30


def pitch_hz(wave):
    return int(torch.fft.rfft(wave).abs().argmax()) * 16000 / len(wave)


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_speed_changes_length_and_pitch(rate_hz):
    data = sound_bytes(seconds=0.3, rate_hz=rate_hz, frequency_hz=1000)
    for speed in (0.8, 0.93, 1.0, 1.25):
        wave = decode_audio(data, LIMITS, speed=speed, fastest=1.25)
        assert abs(len(wave) - 4800 / speed) <= 2 and abs(pitch_hz(wave) - 1000 * speed) <= 16000 / len(wave)
    assert torch.equal(decode_audio(data, LIMITS, speed=1.0, fastest=1.25), decode_audio(data, LIMITS))


def test_speed_comes_before_the_cut():
    data = sound_bytes(seconds=0.6, frequency_hz=1000)
    for number in range(10):
        view = view_of(AugmentConfig(speed=0.25), number)
        assert 0.75 <= view.speed <= 1.25 and len(decode_audio(data, LIMITS, speed=view.speed, fastest=view.fastest)) == 6400


def test_what_is_damaged_is_so_at_any_speed():
    data = bytearray(sound_bytes("FLAC", seconds=2.0))
    for i in range(len(data) * 7 // 10, len(data) * 7 // 10 + 60):      # behind what is kept at the usual speed
        data[i] ^= 0x5A
    limits = MediaLimits(audio_seconds=1.0)
    assert len(decode_audio(bytes(data), limits)) == 16000
    for speed in (0.5, 1.0, 1.5):
        with pytest.raises(BadMedia):
            decode_audio(bytes(data), limits, speed=speed, fastest=1.5)


def test_buckets_keep_the_aspect():
    sizes = (VisionSize(24, 48), VisionSize(48, 24))
    for height, width, expected in ((64, 64, (32, 32)), (64, 80, (32, 32)), (50, 100, (24, 48)), (40, 400, (24, 48)), (90, 50, (48, 24))):
        pixels = decode_image(image_bytes(ramps(height, width)), LIMITS, sizes=sizes)
        assert tuple(pixels.shape[2:]) == expected
    wide = decode_image(image_bytes(ramps(50, 100)), LIMITS, sizes=sizes)[0].float()
    square = decode_image(image_bytes(ramps(50, 100)), LIMITS)[0].float()
    assert wide[1].min() < 8 and wide[1].max() > 247                     # the whole picture: nothing is cut
    assert square[1].min() > 55 and square[1].max() < 200                # its middle
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(image_bytes(ramps(50, 100), "JPEG", exif=exif), LIMITS, sizes=sizes).shape == (1, 3, 48, 24)
    assert nearest((VisionSize(32, 32), VisionSize(24, 48)), 100, 100) == VisionSize(32, 32)


def test_one_caption_of_several():
    text = lambda *media: tuple(Segment(Modality.TEXT if isinstance(m, str) else Modality.IMAGE, m) for m in media)  # noqa: E731
    picture = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    picks = [view_of(AugmentConfig(caption=True), n).caption for n in range(300)]
    for sample in (text("a", "b", "c", picture), text(picture, "a", "b", "c")):
        views = [one_caption(sample, pick) for pick in picks]
        assert all(len(v) == 2 for v in views)
        assert min(sum(any(s.media == t for s in v if isinstance(s.media, str)) for v in views) for t in "abc") > 70
    for other in (text("a", picture, "b"), text("a", "b", picture, picture), text("a", "b"), text("a", picture), text(picture)):
        assert one_caption(other, 0.9) is other


@pytest.mark.parametrize(("text", "said"), [
    ("speed=0.9", r"data.augment: speed = 0.9 must be 0 to 0.5"), ("speed=-0.1", "must be 0 to 0.5"),
    ("crop={area: [0, 1]}", r"data.augment.crop: area = \[0.0, 1.0\] must be a range inside 0.01 to 1"),
    ("crop={area: [0.9, 0.5]}", r"e.g. \[0.5, 1\]"), ("crop={aspect: [1.1, 1.3]}", r"must be a range around 1"),
    ("crop={areas: [0.5, 1]}", "unknown key data.augment.crop.areas; did you mean area"), ("flip=true", "unknown key data.augment.flip"),
    ("crop={area: 0.5}", r"data.augment.crop.area"), ("caption=maybe", "true or false"),
    ("aspect_buckets=[{height: 24, width: 48}, {height: 8, width: 16}]", r"aspect_buckets\[1\] = 8 x 16 has the aspect of 24 x 48"),
    ("aspect_buckets=[{height: 20, width: 48}]", r"\[0\] = 20 x 48 must have sides that are multiples of 8.*use for example 24 x 48"),
    ("aspect_buckets=[{height: 64, width: 64}]", r"\[0\] = 64 x 64 has the aspect of 32 x 32, so no picture would get it"),
])
def test_mistakes(text, said):
    from ernie5.recipe import Recipe

    with pytest.raises(ValueError, match=said):
        load_config(Recipe, {}, [f"data.augment.{text}"]).check()


def test_a_recipe_may_say_it():
    from ernie5.recipe import Recipe

    buckets = "[{height: 32, width: 32}, {height: 24, width: 48}]"
    recipe = load_config(Recipe, {}, ["data.augment.crop={}", f"data.augment.aspect_buckets={buckets}", "data.augment.caption=true"])
    recipe.check()
    assert recipe.data.augment == AugmentConfig(CropConfig((0.5, 1.0)), 0.0, True, (VisionSize(32, 32), VisionSize(24, 48)))
