"""What kind of file some bytes are, and whether their container was cut short or changed, judged without a decoder.

Names lie: a PNG called `.jpg` is harmless, a JPEG called `.wav` is not a sound. Decoders start only on formats named here, so that
the many other readers inside FFmpeg and libsndfile (playlists that open further files, for one) are never reached.
Ours: all of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_STREAMED = 0xFFFFFFFF  # written by programs that did not know the length yet
_MAX_BOXES = 4096       # a file of a million empty boxes must not keep us busy
_MAX_CHUNKS = 2**16     # of a PNG; encoders write at least 8 kB each


def sniff(data: bytes) -> str:
    """`JPEG PNG WEBP GIF WAV AVI FLAC OGG MP4 MATROSKA MP3`, or "" for anything else."""
    head = data[:12]
    if head[:4] == b"RIFF":
        return {b"WAVE": "WAV", b"AVI ": "AVI", b"WEBP": "WEBP"}.get(head[8:12], "")
    for start, kind in ((b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"fLaC", "FLAC"), (b"OggS", "OGG"),
                        (b"\x1a\x45\xdf\xa3", "MATROSKA"), (b"ID3", "MP3")):
        if head.startswith(start):
            return kind
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "MP4"
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06:
        return "MP3"
    return ""


def describe(data: bytes) -> str:
    """For messages: `a PNG file`, `empty`, `unknown bytes (00 01 02 …)`."""
    if not data:
        return "empty"
    kind = sniff(data)
    article = "an" if kind in ("AVI", "MP3", "MP4", "OGG") else "a"
    return f"{article} {kind} file" if kind else f"unknown bytes ({data[:4].hex(' ')} …)"


def is_cut(data: bytes) -> bool:
    """True when a WAV, AVI, WEBP, MP4 or Matroska file says that it is longer than it is; False when complete or nobody can tell."""
    kind = sniff(data)
    if kind == "WAV":
        return any(name == b"data" and end > len(data) and size != _STREAMED for name, size, end in _riff_chunks(data))
    if kind in ("AVI", "WEBP"):
        size = int.from_bytes(data[4:8], "little")
        return size != _STREAMED and 8 + size > len(data)
    if kind == "MP4":
        return any(end > len(data) for name, end in _mp4_boxes(data) if name in (b"mdat", b"moov", b"moof"))
    return kind == "MATROSKA" and _matroska_end(data) > len(data)


def png_damage(data: bytes) -> str:
    """What is wrong with the chunks of a PNG file, "" for nothing: decoders pass over wrong checksums of pixels."""
    at, view = 8, memoryview(data)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            return "it ends before its last chunk"
        name, end = data[at + 4:at + 8], at + 12 + int.from_bytes(data[at:at + 4], "big")
        if end > len(data):
            return f"it ends inside its chunk {_name(name)}"
        if zlib.crc32(view[at + 4:end - 4]) != int.from_bytes(data[end - 4:end], "big"):
            return f"the checksum of its chunk {_name(name)} is wrong"
        if name == b"IEND":
            return ""
        at = end
    return f"it has more than {_MAX_CHUNKS} chunks"


def _name(name: bytes) -> str:
    return name.decode("ascii") if name.isalpha() and name.isascii() else "of no name"


def mp4_samples(data: bytes) -> int:
    """How many samples all tables of an MP4 claim together; a compressed header counts as 2**32, because it can hide any number.

    A table can claim millions of samples in a few bytes, and FFmpeg makes an entry for each while it opens the file.
    """
    total = at = 0
    for name, end in _mp4_boxes(data):
        tables = b"" if name == b"mdat" else data[at:end]  # FFmpeg finds tables in almost any box, but never in the media itself
        for tag, offset in ((b"stsz", 12), (b"stz2", 12), (b"trun", 8), (b"cmov", 0)):
            found = tables.find(tag)
            while found >= 0:
                count = int.from_bytes(tables[found + offset:found + offset + 4], "big") if offset else 2**32
                total, found = total + count, tables.find(tag, found + 4)
        at = end
    return total


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            return
        size = int.from_bytes(data[at + 4:at + 8], "little")
        yield data[at:at + 4], size, at + 8 + size
        at += 8 + size + size % 2


def _mp4_boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            return
        size = int.from_bytes(data[at:at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8:at + 16], "big")
        elif size == 0:
            size = len(data) - at
        size = max(size, 8)
        yield data[at + 4:at + 8], at + size
        at += size
    yield b"", len(data)  # the rest, unsorted


def _matroska_end(data: bytes) -> int:
    at = data.find(b"\x18\x53\x80\x67", 0, 4096)  # the Segment, which holds everything
    if at < 0 or at + 5 > len(data) or not data[at + 4]:
        return len(data)
    width = 9 - data[at + 4].bit_length()
    size = int.from_bytes(data[at + 4:at + 4 + width], "big") & ((1 << 7 * width) - 1)
    streamed = size == (1 << 7 * width) - 1
    return len(data) if streamed else at + 4 + width + size
