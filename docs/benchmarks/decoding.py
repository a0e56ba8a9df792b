"""Which decoder is the fastest for what we decode, and which of them notice half a file.

    OMP_NUM_THREADS=1 python docs/benchmarks/decoding.py [--rounds 9]

Compared are Pillow (whole, and with JPEG's draft mode), simplejpeg, OpenCV, torchvision, soundfile, PyAV, scipy and soxr, as far as they
are installed. All decoders of a kind take turns in every round (A B C A B C …). Printed are CPU milliseconds of one thread for one file
(median of the rounds), the ratio to ours within a round (median, quartiles), the largest difference of a pixel or sample to ours, and what
happens with the first half of a file. `ours` is the whole of decode_image and its like: checks, crop and scaling included.

Found (Pillow 13.0, simplejpeg 1.9, OpenCV 5.0, PyAV 18.1, soundfile 0.14, soxr 1.1, one Xeon core), and why nothing is exchanged:
    JPEG   simplejpeg takes 0.59 – 0.72 of Pillow's time for the same pixels, strict; 0.71 – 0.97 once they are in the Pillow image that the
           antialiased crop needs. Tried inside decode_image: 1.04 – 1.07 of the time without it; scaling costs more than decoding.
           OpenCV 0.70 – 0.86. torchvision from PyPI does not load beside the CPU build of torch.
    PNG    OpenCV 0.88.
    MP4    OpenCV 0.72 and 0.84 in two runs, but it reads only named files and guesses their format.
    sound  soundfile is the fastest for FLAC and MP3 (PyAV 1.5); scipy reads WAV in 0.6 of the time, but half a WAV in silence.
    rate   soxr HQ is 1.7 x as fast as VHQ and 3 x as fast as scipy.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
import torch
from PIL import Image

from ernie5.data_pipelines.decode_audio import decode_audio
from ernie5.data_pipelines.decode_image import decode_image
from ernie5.data_pipelines.decode_video import decode_video
from ernie5.data_pipelines.media_limits import MediaLimits, VisionSize

LIMITS = MediaLimits(image_size=VisionSize(256, 256), video_size=VisionSize(128, 128), num_frames=17, audio_seconds=10.0)
Decoder = Callable[[bytes], np.ndarray]


def photo(side: int, kind: str, number: int) -> bytes:
    """Something with the detail of a photograph: noise whose power falls with frequency."""
    random = np.random.default_rng(number)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))) + 1 / side
    planes = [np.fft.ifft2(np.fft.fft2(random.normal(size=(side, side))) / frequency).real for _ in range(3)]
    pixels = np.stack([planes[0] + 0.3 * p for p in planes], axis=-1)
    file = io.BytesIO()
    Image.fromarray(np.uint8(128 + 50 * pixels / pixels.std()).clip(0, 255)).save(file, kind, quality=85)
    return file.getvalue()


def sound(kind: str, number: int, seconds: int = 10, rate_hz: int = 44100) -> bytes:
    """Falling tones and noise."""
    time_s = np.arange(seconds * rate_hz) / rate_hz
    wave = 0.3 * np.sin(300 * (number + 5) * np.sqrt(time_s + 1)) + 0.05 * np.random.default_rng(number).normal(size=len(time_s))
    file = io.BytesIO()
    soundfile.write(file, wave, rate_hz, format=kind)
    return file.getvalue()


def clip(number: int, height: int = 360, width: int = 640) -> bytes:
    """Two seconds of a moving photograph, H.264, 24 frames a second."""
    still = np.asarray(Image.open(io.BytesIO(photo(1024, "PNG", number))))
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(48):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(still[3 * i:3 * i + height, 4 * i:4 * i + width]), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def pillow_draft(data: bytes) -> np.ndarray:
    """At 1/2, 1/4 or 1/8, but at least twice the wanted size."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (512, 512))
        return np.asarray(image.convert("RGB"))


def with_soundfile(data: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def with_av(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        resampler = av.AudioResampler(format="fltp", layout="mono")
        frames = [f.to_ndarray()[0] for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        return np.concatenate(frames)


def with_scipy(data: bytes) -> np.ndarray:
    from scipy.io import wavfile

    return wavfile.read(io.BytesIO(data))[1].astype(np.float32) / 32768


def av_frames(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].thread_type = "NONE"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def optional() -> tuple[dict[str, Decoder], dict[str, Decoder], dict[str, Decoder], list[str]]:
    """Decoders of JPEG, of PNG and of clips that are installed, and what is not."""
    jpeg: dict[str, Decoder] = {}
    png: dict[str, Decoder] = {}
    video: dict[str, Decoder] = {}
    missing = []
    try:
        import simplejpeg

        jpeg["simplejpeg, strict"] = lambda data: simplejpeg.decode_jpeg(data, "RGB", strict=True)
        jpeg["simplejpeg to PIL"] = lambda data: np.asarray(  # what the antialiased crop needs: a Pillow image
            Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", strict=True)))
        jpeg["simplejpeg, draft"] = lambda data: simplejpeg.decode_jpeg(data, "RGB", min_height=512, min_width=512, strict=True)
    except ImportError:
        missing.append("simplejpeg")
    try:
        import cv2

        cv2.setNumThreads(1)

        def opencv(data: bytes) -> np.ndarray:
            return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

        def opencv_frames(data: bytes) -> np.ndarray:
            with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
                Path(file.name).write_bytes(data)
                capture = cv2.VideoCapture(file.name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
                frames = []
                while (found := capture.read())[0]:
                    frames.append(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
            return np.stack(frames)

        jpeg["opencv"] = png["opencv"] = opencv
        video["opencv"] = opencv_frames
    except ImportError:
        missing.append("opencv-python-headless")
    try:
        from torchvision.io import ImageReadMode
        from torchvision.io import decode_image as decode

        jpeg["torchvision"] = png["torchvision"] = lambda data: decode(
            torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB).permute(1, 2, 0).numpy()
    except (ImportError, RuntimeError, OSError) as error:
        missing.append(f"torchvision ({str(error).splitlines()[0][:80]})")
    return jpeg, png, video, missing


def half(decoder: Decoder, data: bytes) -> str:
    """What comes of the first half of a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = decoder(data[:len(data) // 2])
        return f"SILENT {found.shape}"
    except Exception as error:
        return f"raises {type(error).__name__}"


def compare(title: str, decoders: dict[str, Decoder], files: list[bytes], rounds: int) -> None:
    """One table; the first decoder is the one that we use."""
    spent: dict[str, list[float]] = {name: [] for name in decoders}
    for number in range(rounds + 1):
        for name, decoder in decoders.items():
            start = time.process_time()
            for data in files:
                decoder(data)
            if number:
                spent[name].append((time.process_time() - start) / len(files))
    first, reference = next(iter(decoders.items()))
    print(f"\n{title} ({statistics.mean(map(len, files)) / 1000:.0f} kB each)")
    print(f"{'':22}{'ms':>8}  {f'time / {first}':28}{'difference':>11}  half a file")
    for name, decoder in decoders.items():
        low, middle, high = statistics.quantiles([a / b for a, b in zip(spent[name], spent[first], strict=True)], n=4)
        a, b = (np.asarray(d(files[0]), np.float32) for d in (decoder, reference))
        different = f"{np.abs(a - b).max():.3g}" if a.shape == b.shape else "other size"
        print(f"{name:22}{1000 * statistics.median(spent[name]):8.2f}  {f'{middle:.2f} ({low:.2f} – {high:.2f})':28}{different:>11}  "
              f"{half(decoder, files[0])}", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    jpeg, png, video, missing = optional()
    print(f"Pillow {Image.__version__}, PyAV {av.__version__}, soundfile {soundfile.__version__}, soxr {soxr.__version__}")
    print(f"not here: {', '.join(missing) or 'nothing'}")
    ours = {"ours": lambda data: decode_image(data, LIMITS).numpy()}
    for side in (256, 512, 1024):
        files = [photo(side, "JPEG", n) for n in range(4)]
        compare(f"JPEG {side} x {side}", {"pillow": pillow, "pillow, draft": pillow_draft, **jpeg, **ours}, files, rounds)
    compare("PNG 512 x 512", {"pillow": pillow, **png, **ours}, [photo(512, "PNG", n) for n in range(3)], rounds)
    for kind in ("WAV", "FLAC", "MP3"):
        more = {"scipy": with_scipy} if kind == "WAV" else {}
        compare(f"{kind}, 10 s at 44.1 kHz", {"soundfile": with_soundfile, "pyav": with_av, **more,
                "ours": lambda data: decode_audio(data, LIMITS).numpy()}, [sound(kind, n) for n in range(2)], rounds)
    compare("MP4 640 x 360, 2 s", {"pyav": av_frames, **video, "ours": lambda data: decode_video(data, LIMITS).numpy()}, [clip(0)],
            max(3, rounds // 2))
    waves = [with_soundfile(sound("WAV", n)).tobytes() for n in range(2)]

    def polyphase(data: bytes) -> np.ndarray:
        from scipy.signal import resample_poly

        return resample_poly(np.frombuffer(data, np.float32), 160, 441)

    compare("44.1 -> 16 kHz, 10 s", {
        "soxr HQ": lambda data: soxr.resample(np.frombuffer(data, np.float32), 44100, 16000),
        "soxr VHQ": lambda data: soxr.resample(np.frombuffer(data, np.float32), 44100, 16000, quality="VHQ"),
        "scipy resample_poly": polyphase}, waves, rounds)


if __name__ == "__main__":
    main()
