"""Media to the bytes of real files: PNG, JPEG, MP4 (H.264), FLAC and WAV. The same media give the same bytes on one machine.

Letters: t frames, c RGB, h w pixels, n samples.
"""

from __future__ import annotations

from io import BytesIO

import av
import soundfile
from einops import rearrange
from PIL import Image
from torch import Tensor

JPEG_QUALITY = 95
# A constant quantizer with every adaptive part off: with adaptive rate control x264 now and then wrote other bytes for the same frames.
X264 = "bframes=0:scenecut=0:mbtree=0:rc-lookahead=0:weightp=0:aq-mode=0:log-level=error"
H264_OPTIONS = {"qp": "10", "preset": "veryfast", "threads": "1", "x264-params": X264}


def encode_png(picture: Tensor) -> bytes:
    """uint8 `1 c h w` -> a PNG file; exact."""
    file = BytesIO()
    _pillow(picture).save(file, "PNG")
    return file.getvalue()


def encode_jpeg(picture: Tensor) -> bytes:
    """uint8 `1 c h w` -> a JPEG file of quality 95 with full-resolution colour (4:4:4)."""
    file = BytesIO()
    _pillow(picture).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def _pillow(picture: Tensor) -> Image.Image:
    return Image.fromarray(rearrange(picture, "1 c h w -> h w c").numpy())


def encode_mp4(clip: Tensor, frame_rate_hz: int) -> bytes:
    """uint8 `t c h w` -> an MP4 file, H.264 4:4:4, all frames, close to lossless. h and w must be at least 16."""
    file = BytesIO()
    with av.open(file, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=frame_rate_hz, options=H264_OPTIONS)
        video.height, video.width, video.pix_fmt = clip.shape[2], clip.shape[3], "yuv444p"
        for picture in rearrange(clip, "t c h w -> t h w c").contiguous().numpy():
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    return file.getvalue()


def encode_flac(wave: Tensor, sample_rate_hz: int) -> bytes:
    """float32 `n` in [-1, 1] -> a mono 16-bit FLAC file."""
    return _encode_wave(wave, sample_rate_hz, "FLAC")


def encode_wav(wave: Tensor, sample_rate_hz: int) -> bytes:
    """float32 `n` in [-1, 1] -> a mono 16-bit WAV file."""
    return _encode_wave(wave, sample_rate_hz, "WAV")


def _encode_wave(wave: Tensor, sample_rate_hz: int, name: str) -> bytes:
    file = BytesIO()
    soundfile.write(file, wave.numpy(), sample_rate_hz, format=name, subtype="PCM_16")
    return file.getvalue()
