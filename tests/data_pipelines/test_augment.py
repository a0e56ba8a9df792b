"""Augmentation: each view is a function of its seed, nothing else changes, and nothing happens by default."""

import numpy as np
import pytest
import torch
from make_media import clip_bytes, image_bytes, quarters, sound_bytes

from ernie5.config import load_config
from ernie5.data_pipelines.augment import AugmentConfig, augment, draw_crop, faster, roomier
from ernie5.data_pipelines.decode_image import decode_image
from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.media_limits import MediaLimits, VisionSize
from ernie5.data_pipelines.picture_crop import CENTRE, Crop
from ernie5.data_pipelines.sources import Record
from ernie5.data_pipelines.write_shards import Member
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality, Sample, Segment

LIMITS = MediaLimits(audio_seconds=0.4)
ALL = AugmentConfig(crop=0.5, flip=0.5, speed=1.25, captions_from=("short",), one_caption=True)
MEMBERS = (Member(Modality.TEXT, "txt", b"four quarters"), Member(Modality.IMAGE, "png", image_bytes(quarters())))


def draw(config, number, members=MEMBERS, attributes=None):
    limits = roomier(LIMITS, config)
    crop = draw_crop(stream(0, "crop", number), config)
    sample = decode_record(Record("s/t/0", members, attributes or {}), limits, crop=crop)
    return augment(sample, stream(0, "augment", number), config, LIMITS)


def text(*media):
    return Sample("x", tuple(Segment(Modality.TEXT, m) if isinstance(m, str) else Segment(Modality.IMAGE, m) for m in media), {})


PICTURE = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2)


def test_nothing_happens_by_default():
    config = AugmentConfig()
    assert not config.on and ALL.on and roomier(LIMITS, config) is LIMITS and draw_crop(stream(0, "crop", 1), config) is CENTRE
    sample = text("a", PICTURE)
    assert augment(sample, stream(0, "augment", 1), config, LIMITS) is sample
    assert torch.equal(decode_image(MEMBERS[1].data, LIMITS), decode_image(MEMBERS[1].data, LIMITS, Crop()))


def test_a_view_is_a_function_of_its_number():
    sound = (MEMBERS[0], Member(Modality.AUDIO, "wav", sound_bytes(seconds=0.6)))
    for members in (MEMBERS, sound):
        views = [draw(ALL, n, members, {"short": "4"}) for n in range(12)]
        again = [draw(ALL, n, members, {"short": "4"}) for n in range(12)]
        for a, b in zip(views, again, strict=True):
            assert a.segments[0] == b.segments[0] and torch.equal(a.segments[1].media, b.segments[1].media)
        assert len({v.segments[1].media.numpy().tobytes() for v in views}) == 12
        assert {v.segments[0].media for v in views} == {"four quarters", "4"}


def test_crops_lie_inside_and_reach_every_corner():
    size = MediaLimits(image_size=VisionSize(16, 16))
    picture = image_bytes(quarters(64, 96))
    corners = {Crop(0.4, x, y): colour for (x, y), colour in zip([(0, 0), (1, 0), (0, 1), (1, 1)], [
        (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)], strict=True)}
    for crop, colour in corners.items():
        pixels = decode_image(picture, size, crop)
        assert pixels.shape == (1, 3, 16, 16) and (pixels == torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1)).all()
    for number in range(200):
        crop = draw_crop(stream(3, "crop", number), AugmentConfig(crop=0.7))
        assert 0.7 <= crop.zoom <= 1 and 0 <= crop.x <= 1 and 0 <= crop.y <= 1
    zooms = [draw_crop(stream(3, "crop", n), AugmentConfig(crop=0.7)).zoom for n in range(200)]
    assert min(zooms) < 0.73 and max(zooms) > 0.97 and abs(np.mean(zooms) - 0.85) < 0.02


def test_clips_are_cropped_alike_in_every_frame():
    clip = Member(Modality.VIDEO, "mp4", clip_bytes([i / 8 for i in range(10)], pixels=quarters()))
    frames = draw(AugmentConfig(crop=0.4), 5, (clip,)).segments[0].media
    assert frames.shape == (9, 3, 32, 32)
    assert (frames[0].int() - frames[-1].int()).abs().max() < 30  # one window: the still picture stands still


def test_flip_mirrors_every_picture_of_a_sample_or_none():
    sample = text("a", PICTURE, "b", PICTURE + 1)
    for number in range(20):
        view = augment(sample, stream(0, "augment", number), AugmentConfig(flip=0.5), LIMITS)
        mirrored = [torch.equal(v.media, s.media.flip(-1)) for v, s in zip(view.segments, sample.segments, strict=True)
                    if isinstance(s.media, torch.Tensor)]
        assert mirrored in ([True, True], [False, False])
    share = np.mean([augment(text(PICTURE), stream(0, "augment", n), AugmentConfig(flip=0.3), LIMITS).segments[0].media[0, 0, 0, 0] == 1
                     for n in range(600)])
    assert abs(share - 0.3) < 0.06


def test_speed_changes_length_and_pitch_and_keeps_the_cap():
    wave = torch.sin(2 * np.pi * 440 * torch.arange(16000) / 16000) * 0.5
    quick = faster(wave, 1.25)
    assert abs(len(quick) - 12800) <= 2
    assert abs(int(torch.fft.rfft(quick).abs().argmax()) * 16000 / len(quick) - 550) < 3
    assert len(faster(wave[:1], 2.0)) >= 1
    config = AugmentConfig(speed=1.25)
    lengths = [len(draw(config, n, (Member(Modality.AUDIO, "wav", sound_bytes(seconds=0.6)),)).segments[0].media) for n in range(30)]
    assert max(lengths) == min(lengths) == 6400  # a long sound always fills what is kept
    lengths = [len(draw(config, n, (Member(Modality.AUDIO, "wav", sound_bytes(seconds=0.3)),)).segments[0].media) for n in range(30)]
    assert 3840 - 2 <= min(lengths) < 4000 and 5800 < max(lengths) <= 6002


def test_one_caption_of_several():
    config = AugmentConfig(one_caption=True)
    sample = text("a", "b", "c", PICTURE)
    views = [augment(sample, stream(0, "augment", n), config, LIMITS) for n in range(300)]
    assert all(len(v.segments) == 2 and v.segments[1].media is PICTURE for v in views)
    counts = [sum(v.segments[0].media == t for v in views) for t in "abc"]
    assert min(counts) > 70
    for other in (text("a", PICTURE, "b"), text("a", PICTURE, PICTURE), text("a", "b"), text(PICTURE)):  # documents keep their texts
        assert augment(other, stream(0, "augment", 1), config, LIMITS) is other
    assert augment(sample, stream(0, "augment", 1), AugmentConfig(captions_from=("x",)), LIMITS) is sample


def test_captions_from_attributes_only_where_they_are_texts():
    sample = Sample("x", text("a", PICTURE).segments, {"long": "a long one", "empty": " ", "number": 3})
    config = AugmentConfig(captions_from=("long", "empty", "number", "absent"))
    assert {augment(sample, stream(0, "augment", n), config, LIMITS).segments[0].media for n in range(40)} == {"a", "a long one"}


def test_switching_one_on_changes_no_other():
    sample = Sample("x", text("a", PICTURE).segments, {"long": "b"})
    for number in range(20):
        one = augment(sample, stream(0, "augment", number), AugmentConfig(captions_from=("long",)), LIMITS)
        two = augment(sample, stream(0, "augment", number), AugmentConfig(captions_from=("long",), flip=1.0, speed=1.1), LIMITS)
        assert one.segments[0] == two.segments[0] and torch.equal(one.segments[1].media.flip(-1), two.segments[1].media)


@pytest.mark.parametrize(("key", "value"), [("crop", 0), ("crop", 1.5), ("flip", -0.1), ("speed", 0.9), ("speed", 3)])
def test_mistakes(key, value):
    with pytest.raises(ValueError, match=f"data.augment.{key} = {value}"):
        AugmentConfig(**{key: value})
    assert load_config(AugmentConfig, {}, ["captions_from=[short,long]", "crop=0.8"]).captions_from == ("short", "long")
