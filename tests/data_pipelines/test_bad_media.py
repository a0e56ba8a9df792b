"""Damaged, lying and hostile media: each is refused with a reason, and before it costs memory."""

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from make_media import clip_bytes, image_bytes, levels, png_bomb, quarters, sound_bytes, with_mp4_size

from ernie5.data_pipelines.decode_media import decode_member, decode_record, decode_text
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.sniff_media import is_cut, mp4_samples, sniff
from ernie5.data_pipelines.sources import Record
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality, Role

LIMITS = MediaLimits()
TIMES = [i / 24 for i in range(30)]
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def files():
    """One good file of every kind: name -> (modality, bytes)."""
    images = {kind: (Modality.IMAGE, image_bytes(NOISE, kind)) for kind in ("JPEG", "PNG", "WEBP")}
    sounds = {kind: (Modality.AUDIO, sound_bytes(kind, 1.0)) for kind in ("WAV", "FLAC", "OGG", "MP3")}
    clips = {"MP4": clip_bytes(TIMES), "H264": clip_bytes(TIMES, "mp4", "libx264", pixels=None), "AVI": clip_bytes(TIMES, "avi"),
             "WEBM": clip_bytes(TIMES, "webm", "libvpx"), "MKV": clip_bytes(TIMES, "matroska")}
    return images | sounds | {name: (Modality.VIDEO, data) for name, data in clips.items()}


FILES = files()
ENDINGS = {Modality.IMAGE: "png", Modality.AUDIO: "wav", Modality.VIDEO: "mp4", Modality.TEXT: "txt"}


def decode(modality, data, limits=LIMITS):
    return decode_member(Member(modality, ENDINGS[modality], data), limits)


@pytest.mark.parametrize("name", FILES)
def test_good_files_decode_under_any_name_of_their_modality(name):
    modality, data = FILES[name]
    assert decode(modality, data).numel() > 0
    assert sniff(data) and not is_cut(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", [0.0, 0.03, 0.3, 0.5, 0.7])
def test_truncated(name, part):
    modality, data = FILES[name]
    with pytest.raises(BadMedia) as caught:
        decode(modality, data[:int(len(data) * part)])
    reason = str(caught.value)
    assert len(reason) > 20 and "\n" not in reason and " at 0x" not in reason and "<" not in reason


@pytest.mark.parametrize("name", FILES)
def test_the_wrong_modality(name):
    modality, data = FILES[name]
    for other in Modality:
        if other is not modality:
            with pytest.raises(BadMedia, match="file" if other is not Modality.TEXT else "UTF-8"):
                decode(other, data)


def test_a_jpeg_called_wav_is_named_as_such():
    with pytest.raises(BadMedia, match="not a WAV, FLAC, OGG or MP3 sound but a JPEG file"):
        decode(Modality.AUDIO, FILES["JPEG"][1])


@pytest.mark.parametrize("modality", list(Modality))
def test_nothing_and_noise(modality):
    rng = np.random.default_rng(1)
    for data in (b"", b"\0", b"\0" * 5000, b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WAVE", b"ID3", b"fLaC", b"OggS", b"\xff\xd8\xff",
                 b"\0\0\0\x08ftyp", b"\x1a\x45\xdf\xa3", b"RIFF\0\0\0\0AVI ", *(rng.bytes(3000) for _ in range(5))):
        if modality is Modality.TEXT and data in (b"ID3", b"fLaC", b"OggS", b"\x1a\x45\xdf\xa3"):
            continue  # odd, but text
        with pytest.raises(BadMedia):
            decode(modality, data)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_give_a_reason_or_media_of_the_right_form(name):
    modality, data = FILES[name]
    shape = decode(modality, data).shape
    rng = np.random.default_rng(2)
    for _ in range(25):
        bad = bytearray(data)
        for at in rng.integers(0, len(bad), 4):
            bad[at] = int(rng.integers(256))
        try:
            media = decode(modality, bytes(bad))
        except BadMedia as error:
            assert str(error)
            continue
        assert media.shape[1:] == shape[1:] and 0 < len(media) <= max(len(shape) and shape[0], 16640)
        assert modality is not Modality.VIDEO or len(media) in (5, 9)
        assert modality is not Modality.AUDIO or float(media.abs().max()) <= 1


def test_playlists_and_other_readers_of_ffmpeg_are_never_reached(tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(FILES["MP4"][1])
    for text in (f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n", f"ffconcat version 1.0\nfile '{secret}'\n",
                 f"<MPD><BaseURL>file://{secret}</BaseURL></MPD>"):
        with pytest.raises(BadMedia, match="unknown bytes"):
            decode(Modality.VIDEO, text.encode())


def test_a_wav_that_lies_about_its_length():
    data = bytearray(sound_bytes("WAV", 0.5))
    for size in (0x7FFFFFF0, 0xFFFFFFF0, len(data)):
        struct.pack_into("<I", data, 40, size)
        with pytest.raises(BadMedia, match="cut short"):
            decode(Modality.AUDIO, bytes(data))
    struct.pack_into("<I", data, 40, 0xFFFFFFFF)  # a pipe wrote it: length unknown
    struct.pack_into("<I", data, 4, 0xFFFFFFFF)
    assert abs(len(decode(Modality.AUDIO, bytes(data))) - 8000) < 10


def test_sounds_with_absurd_headers():
    for offset, form, value in ((24, "<I", 0x7FFFFFFF), (24, "<I", 1), (22, "<H", 1024), (22, "<H", 0), (34, "<H", 0)):
        data = bytearray(sound_bytes("WAV", 0.5))
        struct.pack_into(form, data, offset, value)
        with pytest.raises(BadMedia):
            decode(Modality.AUDIO, bytes(data))
    flac = bytearray(sound_bytes("FLAC", 0.5))
    flac[21] |= 0x0F  # the four high bits of the 36-bit sample count
    with pytest.raises(BadMedia, match="by its header, more than max_seconds"):
        decode(Modality.AUDIO, bytes(flac))


@pytest.mark.parametrize("size", [(65535, 65535), (20000, 20000), (8000, 8000)])
def test_clips_with_absurd_headers(size):
    try:
        assert levels(decode(Modality.VIDEO, with_mp4_size(FILES["MP4"][1], *size)))  # this codec repeats the true size in its data
    except BadMedia as error:
        assert "max_pixels" in str(error)
    webm = FILES["WEBM"][1]
    at = webm.find(b"\xb0\x81\x40\xba\x81\x30")  # width 64, height 48, one byte each
    assert at > 0
    with pytest.raises(BadMedia):
        decode(Modality.VIDEO, webm[:at] + b"\xb0\x81\xff\xba\x81\xff" + webm[at + 6:], MediaLimits(max_pixels=3071))


def with_table(data, count):
    """An MP4 whose tables say that it has `count` samples of one byte each, all in one chunk."""
    data = bytearray(data)
    struct.pack_into(">II", data, data.find(b"stsz") + 8, 1, count)
    struct.pack_into(">II", data, data.find(b"stts") + 12, count, 1)
    struct.pack_into(">III", data, data.find(b"stsc") + 12, 1, count, 1)
    return bytes(data)


def test_clips_that_claim_millions_of_samples():
    clip = FILES["MP4"][1]
    for data in (with_table(clip, 20_000_000), clip + struct.pack(">I4sIIII", 24, b"free", 0, 0x73747378, 0, 0) + struct.pack(
            ">I4sI4sIII", 28, b"moof", 20, b"trun", 0, 2**31, 0), clip + struct.pack(">I4sI4s", 16, b"moov", 8, b"cmov")):
        with pytest.raises(BadMedia, match="tables claim"):
            decode(Modality.VIDEO, data)


def test_a_million_tiny_boxes_take_no_time():
    for data in (FILES["MP4"][1] + struct.pack(">I4s", 8, b"free") * 2**20, b"RIFF\0\0\0\0WAVE" + b"LIST\0\0\0\0" * 2**20):
        start = time.perf_counter()
        assert is_cut(data) is False and mp4_samples(data) in (0, 30)
        assert time.perf_counter() - start < 0.5


def test_text():
    assert decode_text("\ufeffcafé\r\nand tea\r\n".encode(), LIMITS) == "café\nand tea"
    for data, words in ((b"caf\xe9", "not UTF-8"), ("tea".encode("utf-16"), "UTF-8"), (b"a\0b", "zero character"), (b" \n", "empty"),
                        (b"x" * 11, "11 bytes, more than max_text_bytes = 10"), (b"\xed\xa0\x80", "not UTF-8")):
        with pytest.raises(BadMedia, match=words):
            decode_text(data, MediaLimits(max_text_bytes=10))


def test_a_record_is_decoded_whole_or_not_at_all():
    good = (Member(Modality.TEXT, "txt", b"a square"), Member(Modality.IMAGE, "png", image_bytes(quarters())),
            Member(Modality.AUDIO, "wav", sound_bytes()), Member(Modality.VIDEO, "mp4", FILES["MP4"][1]))
    sample = decode_record(Record("s/t/1", good, {"a": 1}), LIMITS, sample_rate_hz=8000)
    assert sample.id == "s/t/1" and sample.attributes == {"a": 1} and all(s.role is Role.GENERATE for s in sample.segments)
    assert sample.segments[0].media == "a square"
    assert [tuple(s.media.shape) for s in sample.segments[1:]] == [(1, 3, 32, 32), (4000,), (9, 3, 32, 32)]
    with pytest.raises(BadSample, match="^s/t/1: segment 4 .audio.: not a WAV") as caught:
        decode_record(Record("s/t/1", (*good, Member(Modality.AUDIO, "wav", b"")), {}), LIMITS)
    assert caught.value.sample_id == "s/t/1"


MEASURE = """
import json, re, sys, time
from ernie5.data_pipelines.decode_media import decode_member
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality
found = {}
def peak():  # of this process alone: ru_maxrss begins with that of the process that started it
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
for modality, path in json.loads(sys.argv[1]):
    data = open(path, "rb").read()
    before, start, reason = peak(), time.perf_counter(), "decoded"
    try:
        decode_member(Member(Modality(modality), "x", data), MediaLimits())
    except BadMedia as error:
        reason = str(error)
    found[path.rpartition("/")[2]] = [reason, peak() - before, time.perf_counter() - start]
print(json.dumps(found))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_bombs_cost_neither_memory_nor_time(tmp_path):
    """Each would take hundreds of megabytes decoded; a fresh process shows the peak."""
    black = np.zeros((5800, 5800, 3), np.uint8)
    bombs = {
        "png20000": (Modality.IMAGE, png_bomb(20000)), "png9000": (Modality.IMAGE, png_bomb(9000)),
        "table": (Modality.VIDEO, with_table(FILES["MP4"][1], 20_000_000)),
        "table2": (Modality.VIDEO, with_table(FILES["MP4"][1], 500_000)),
        "mp4": (Modality.VIDEO, with_mp4_size(FILES["MP4"][1], 65535, 65535)),
        "h264": (Modality.VIDEO, clip_bytes([0], codec="libx264", size=(5800, 5800), pixels=black)),
        "wav": (Modality.AUDIO, sound_bytes("WAV", 601.0, 8000)), "text": (Modality.TEXT, b"x" * 2**24)}
    for name, (_, data) in bombs.items():
        (tmp_path / name).write_bytes(data)
    order = json.dumps([(modality.value, str(tmp_path / name)) for name, (modality, _) in bombs.items()])
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MEASURE, order], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert list(found) == list(bombs)
    for name, (reason, mib, seconds) in found.items():
        assert mib < 60 and seconds < 1, (name, reason, mib, seconds)
        assert "max_" in reason or name in ("mp4", "table"), (name, reason)  # "mp4": this codec repeats the true size
