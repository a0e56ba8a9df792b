"""A small world of good shards, and the bombs and lies that damage.py sets against their reader.

`world(folder)` writes two indexed shards that hold every format once or twice; `foreign(folder)` writes the same samples as other people
do: plain tars without an index. The same files every time.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.sequence import Modality

Stored = dict[str, tuple[tuple[Member, ...], dict]]
SHARDS = ("part-000000", "part-000001")
WORDS = "red green blue small large circle square star moves left right up down slowly".split()


def picture(kind: str, seed: int, **options: int) -> bytes:
    """48 x 64 pixels of smooth noise."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC).save(file, kind, **options)
    return file.getvalue()


def sound(kind: str, seed: int, rate_hz: int = 16000) -> bytes:
    """0.8 s of two tones and a little noise."""
    random, time = np.random.default_rng(seed), np.arange(int(0.8 * rate_hz)) / rate_hz
    wave = sum(0.3 * np.sin(2 * np.pi * f * time) for f in random.uniform(200, 3000, 2)) + 0.01 * random.normal(size=len(time))
    file = io.BytesIO()
    soundfile.write(file, wave, rate_hz, format=kind)
    return file.getvalue()


def clip(kind: str, codec: str, seed: int, num_frames: int = 12) -> bytes:
    """Frames of 48 x 64 pixels at 10 Hz."""
    file, random = io.BytesIO(), np.random.default_rng(seed)
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(num_frames):
            pixels = np.full((48, 64, 3), random.integers(0, 256, 3), np.uint8)
            pixels[i:i + 20, 2 * i:2 * i + 20] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


MEDIA = {  # ending -> (modality, maker)
    "jpg": (Modality.IMAGE, lambda s: picture("JPEG", s)), "png": (Modality.IMAGE, lambda s: picture("PNG", s)),
    "webp": (Modality.IMAGE, lambda s: picture("WEBP", s)), "jpeg": (Modality.IMAGE, lambda s: picture("JPEG", s, progressive=True)),
    "wav": (Modality.AUDIO, lambda s: sound("WAV", s)), "flac": (Modality.AUDIO, lambda s: sound("FLAC", s)),
    "ogg": (Modality.AUDIO, lambda s: sound("OGG", s)), "mp3": (Modality.AUDIO, lambda s: sound("MP3", s)),
    "mp4": (Modality.VIDEO, lambda s: clip("mp4", "libx264", s)), "webm": (Modality.VIDEO, lambda s: clip("webm", "libvpx", s)),
    "mkv": (Modality.VIDEO, lambda s: clip("matroska", "mpeg4", s)), "avi": (Modality.VIDEO, lambda s: clip("avi", "mpeg4", s)),
}


def samples() -> Stored:
    """`part-000000/007` -> members and attributes: a medium and its caption each, then two of text alone."""
    made: Stored = {}
    for number in range(16):
        random = np.random.default_rng(number)
        caption = Member(Modality.TEXT, "txt", " ".join(random.choice(WORDS, 8)).encode())
        members = [caption]
        if number < len(MEDIA):
            ending, (modality, make) = list(MEDIA.items())[number]
            members.append(Member(modality, ending, make(number)))
        made[f"{SHARDS[number % 2]}/{number:03d}"] = (tuple(members), {"number": number, "source": f"page {number * 7}"})
    return made


def write(folder: Path, stored: Stored) -> None:
    """Indexed shards, as `ernie5 data pack` writes them."""
    with ShardWriter(folder, "part", samples_per_shard=len(stored) // 2) as writer:
        for shard in SHARDS:
            for name, (members, attributes) in stored.items():
                if name.startswith(shard):
                    writer.write(name.rpartition("/")[2], members, attributes)


def plain_members(stored: Stored, shard: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The members of one foreign tar: `007.txt`, `007.jpg`, `007.json` (attributes alone)."""
    files = []
    for name, (members, attributes) in stored.items():
        if name.startswith(shard):
            key = name.rpartition("/")[2]
            named = [(f"{key}.{m.extension}", m.data) for m in members] + [(f"{key}.json", json.dumps(attributes).encode())]
            files += [(info_of(file, len(data)), data) for file, data in named]
    return files


def info_of(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """A tar header."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, target
    return info


def tar_bytes(members: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A whole tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def png_bomb(side: int) -> bytes:
    """A valid 1-bit PNG of side x side zeros in a few kilobytes."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    packer, row = zlib.compressobj(1), bytes(1 + (side + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
            + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    """Bytes with numbers written over them."""
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def zipped(data: bytes) -> bytes:
    """A zip archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", data)
    return file.getvalue()


def bombs() -> dict[str, Member]:
    """Members that would cost hundreds of megabytes, or that lie about what they are; every one of them must be refused."""
    wav, flac, mp4 = sound("WAV", 1), sound("FLAC", 1), clip("mp4", "mpeg4", 1)
    noise = np.random.default_rng(0).bytes(3000)
    found = {f"png {side}": (Modality.IMAGE, png_bomb(side)) for side in (13_000, 30_000)}
    found |= {f"jpeg {h} x {w}": (Modality.IMAGE, patched(jpeg, jpeg.find(b"\xff\xc0") + 5, ">HH", h, w))
              for jpeg in [picture("JPEG", 1)] for h, w in ((65_000, 65_000), (20_000, 20_000))}
    found |= {f"wav of {size} bytes": (Modality.AUDIO, patched(wav, 40, "<I", size)) for size in (0x7FFFFFF0, 0xFFFFFFF0, len(wav) - 40)}
    found |= {"wav at 2 GHz": (Modality.AUDIO, patched(wav, 24, "<I", 2_000_000_000)), "wav, 60000 channels": (
        Modality.AUDIO, patched(wav, 22, "<H", 60_000)), "flac of a year": (Modality.AUDIO, patched(flac, 21, ">B", flac[21] | 0x0F))}
    found |= {"mp4 tables": (Modality.VIDEO, patched(mp4, mp4.find(b"stsz") + 8, ">II", 1, 20_000_000)),
              "mp4 box": (Modality.VIDEO, patched(mp4, mp4.find(b"mdat") - 4, ">I", 0x7FFFFFFF))}
    found |= {f"{kind} as {m.value}": (m, data) for m in Modality for kind, data in (
        ("gzip", gzip.compress(bytes(10_000_000), mtime=0)), ("zip", zipped(bytes(10_000_000))), ("noise", noise), ("nothing", b""))}
    found |= {"text of 8 MB": (Modality.TEXT, b"a " * 2**22)}
    return {name: Member(modality, {"image": "png", "audio": "wav", "video": "mp4", "text": "txt"}[modality.value], data)
            for name, (modality, data) in found.items()}


def bad_json(random: np.random.Generator) -> bytes:
    """A header that costs much or says nonsense."""
    deep = int(random.integers(5_000, 200_000))
    return [b"[" * deep, b'{"a":' * deep, b'{"n": ' + b"9" * deep + b"}", b'{"pad": "' + b"x" * 5_000_000 + b'"}', b"\xff\xfe{}", b"",
            b'{"segments": 3}', b'{"segments": []}', b'{"segments": [{"modality": "text"}]}', b'{"segments": [null]}',
            b'{"segments": [{"modality": "smell", "member": "0.txt"}]}', b'{"segments": [{"modality": "text", "member": "../0.txt"}]}',
            b'{"segments": [{"modality": "text", "member": "json"}]}', b"[" + b"{}," * 1_300_000][int(random.integers(14))]
