"""Small media files made in memory for the tests of decoding: never committed, always the same."""

import io
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import soundfile
from PIL import Image


def quarters(height=48, width=64):
    """An RGB picture whose corners tell how it was turned: red, green / blue, white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:height // 2, :width // 2] = (255, 0, 0)
    pixels[:height // 2, width // 2:] = (0, 255, 0)
    pixels[height // 2:, :width // 2] = (0, 0, 255)
    pixels[height // 2:, width // 2:] = (255, 255, 255)
    return pixels


def image_bytes(image, kind="PNG", **options):
    """Encode a Pillow image or an array."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sound_bytes(kind="WAV", seconds=0.5, rate_hz=16000, channels=1, frequency_hz=440.0, subtype=None):
    """A sine of amplitude 0.5; with two channels the second one is silent."""
    wave = 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    samples = np.stack([wave] + [np.zeros_like(wave)] * (channels - 1), axis=1)
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def clip_bytes(times_s, kind="mp4", codec="mpeg4", size=(48, 64), pixels=None):
    """Frame i is grey with level 10 + 7 * i and is shown from times_s[i] on."""
    file, (height, width) = io.BytesIO(), size
    options = {"mpeg4": {"qmin": "2", "qmax": "2"}, "libx264": {"preset": "ultrafast", "qp": "4"}}.get(codec, {})
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=1000, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, time in enumerate(times_s):
            image = np.full((height, width, 3), 10 + 7 * i, np.uint8) if pixels is None else pixels
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def levels(clip):
    """Which frame numbers of `clip_bytes` a decoded clip shows."""
    return [round((float(frame.float().mean()) - 10) / 7) for frame in clip]


def png_bomb(side):
    """A valid 1-bit PNG of side x side zeros in a few kilobytes."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    packer, row = zlib.compressobj(1), bytes(1 + (side + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
            + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def with_mp4_size(data, width, height, codec=b"mp4v"):
    """An MP4 whose header lies about its frame size."""
    data, at = bytearray(data), data.find(codec, data.find(b"stsd"))
    struct.pack_into(">HH", data, at + 28, width, height)
    return bytes(data)
