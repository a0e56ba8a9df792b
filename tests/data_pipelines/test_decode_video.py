"""Clips: frames are chosen by time stamps, counts are 1 + 4 k, whatever the container and the frame rate."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from make_media import clip_bytes, levels, quarters

from ernie5.data_pipelines.decode_video import decode_video
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, VisionSize

LIMITS = MediaLimits()
CORNERS = {(3, 3): (255, 0, 0), (3, -4): (0, 255, 0), (-4, 3): (0, 0, 255), (-4, -4): (255, 255, 255)}


@pytest.mark.parametrize(("kind", "codec"), [("mp4", "mpeg4"), ("mp4", "libx264"), ("mov", "mpeg4"), ("matroska", "mpeg4"),
                                             ("webm", "libvpx"), ("avi", "mpeg4")])
def test_containers(kind, codec):
    clip = decode_video(clip_bytes([i / 24 for i in range(30)], kind, codec), LIMITS)
    assert clip.shape == (9, 3, 32, 32) and str(clip.dtype) == "torch.uint8"
    assert levels(clip) == [0, 3, 6, 9, 12, 15, 18, 21, 24]


@pytest.mark.parametrize("fps", [8, 10, 12.5, 15, 25, 30, 60])
def test_frame_rates(fps):
    times = [i / fps for i in range(int(fps * 1.2))][:34]
    shown = levels(decode_video(clip_bytes(times), LIMITS))
    assert shown == [max(i for i, t in enumerate(times) if t <= k / 8 + 0.002) for k in range(len(shown))]
    assert len(shown) == (9 if times[-1] >= 1 else 5)


def test_variable_frame_rate():
    times = [0, 0.04, 0.08, 0.12, 0.5, 0.52, 0.54, 0.9, 1.1, 1.2]  # a long still between two bursts
    assert levels(decode_video(clip_bytes(times), LIMITS)) == [0, 3, 3, 3, 4, 6, 6, 6, 7]


def test_a_clip_that_starts_late():
    assert levels(decode_video(clip_bytes([5 + i / 8 for i in range(9)], "matroska"), LIMITS)) == list(range(9))


@pytest.mark.parametrize(("count", "expected"), [
    (1, [0] * 5), (3, [0, 1, 2, 2, 2]), (5, [0, 1, 2, 3, 4]), (8, [0, 1, 2, 3, 4]), (9, list(range(9)))])
def test_short_clips(count, expected):
    clip = decode_video(clip_bytes([i / 8 for i in range(count)], "matroska", "libvpx"), LIMITS)
    assert levels(clip) == expected


def test_an_image_only_model_takes_one_frame():
    assert levels(decode_video(clip_bytes([i / 8 for i in range(9)]), MediaLimits(num_frames=1))) == [0]


def test_size_crop_and_colour():
    clip = decode_video(clip_bytes([0, 0.1, 0.2], size=(48, 128), pixels=quarters(48, 128)), MediaLimits(video_size=VisionSize(16, 24)))
    assert clip.shape == (5, 3, 16, 24)
    for (y, x), colour in CORNERS.items():
        assert np.abs(clip[0, :, y, x].numpy().astype(int) - colour).max() < 30


@pytest.mark.parametrize(("quarter_turns", "matrix"), [(1, (0, 1, -1, 0)), (2, (-1, 0, 0, -1)), (3, (0, -1, 1, 0))])
def test_clips_of_turned_phones(quarter_turns, matrix):
    """`matrix` (a b c d of the track header) turns the stored picture clockwise: (1, 0), to the right, goes to (a, b), y down."""
    stored = np.ascontiguousarray(np.rot90(quarters(64, 64), quarter_turns))
    data = bytearray(clip_bytes([0, 0.125], size=(64, 64), pixels=stored))
    a, b, c, d = (v * 65536 for v in matrix)
    struct.pack_into(">9i", data, data.find(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 2**30)
    clip = decode_video(bytes(data), LIMITS)
    for (y, x), colour in CORNERS.items():
        assert np.abs(clip[0, :, y, x].numpy().astype(int) - colour).max() < 30


def test_pixels_that_are_not_square():
    wide = np.zeros((48, 48, 3), np.uint8)
    wide[:, 12:36] = 255  # with pixels twice as wide as high, the centre square of the screen is all white
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=8, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(wide, format="rgb24")))
        container.mux(stream.encode())
    assert (decode_video(file.getvalue(), LIMITS)[..., 3:-3] > 200).all()


def test_sound_beside_the_pictures_is_ignored():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=16000)
        stream = container.add_stream("mpeg4", rate=8, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        for i in range(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 48, 3), 10 + 7 * i, np.uint8), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = 16000, 0
        for out in (stream.encode(), sound.encode(frame), sound.encode()):
            container.mux(out)
    assert levels(decode_video(file.getvalue(), LIMITS)) == list(range(9))


def test_caps():
    clip = clip_bytes([i / 24 for i in range(30)])
    for limits, words in ((MediaLimits(max_frames=20), "30 frames by its header, more than max_frames = 20"),
                          (MediaLimits(max_seconds=0.5), "more than max_seconds = 0.5"),
                          (MediaLimits(max_pixels=3000), "above max_pixels = 3000"),
                          (MediaLimits(max_bytes=100), "more than max_bytes = 100")):
        with pytest.raises(BadMedia, match=words):
            decode_video(clip, limits)
    with pytest.raises(BadMedia, match="64 x 48 pixels, more than max_pixels = 3000"):
        decode_video(clip_bytes([0, 0.1], codec="libx264"), MediaLimits(max_pixels=3000))


def test_frames_are_counted_while_decoding_too():
    burst = clip_bytes([i / 1000 for i in range(30)], "matroska", "libvpx")  # this container does not say how many frames it has
    with pytest.raises(BadMedia, match="more than max_frames = 20"):
        decode_video(burst, MediaLimits(max_frames=20))
