"""Steps about media: signatures, nearness of codes, near images, sizes from headers, exact duplicates."""

import io

import numpy as np
import pytest
import soundfile
from make_media import clip_bytes, image_bytes, png_bomb, quarters, sound_bytes
from PIL import Image

from ernie5.data_pipelines.curate import near_image
from ernie5.data_pipelines.curate.exact import Exact, find_copies, sign
from ernie5.data_pipelines.curate.hamming_index import HammingIndex
from ernie5.data_pipelines.curate.media_rules import ClipSize, ImageSize, SoundSize, check_clips, check_images, check_sounds
from ernie5.data_pipelines.curate.near_image import NearImage, PictureIndex
from ernie5.data_pipelines.curate.picture_signature import compare, picture_signature
from ernie5.data_pipelines.curate.planted_images import real_picture
from ernie5.data_pipelines.curate.view import View
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.sources import Record
from ernie5.data_pipelines.write_shards import Member
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality

ENDINGS = {"png": Modality.IMAGE, "mp4": Modality.VIDEO, "wav": Modality.AUDIO, "txt": Modality.TEXT}


def view(*files):
    """A sample of (ending, bytes)."""
    return View(Record("s/shard/k", tuple(Member(ENDINGS[ending], ending, data) for ending, data in files), {}), MediaLimits())


@pytest.mark.parametrize("radius", [0, 3, 7, 10, 15])
def test_the_index_finds_what_comparing_all_finds(radius):
    random = stream(0, "codes", radius)
    index, codes = HammingIndex(radius), []
    for i in range(300):
        code = int(random.integers(0, 2**64, dtype=np.uint64))
        if i % 2:  # a neighbour, at any distance up to 19 bits
            flips = random.choice(64, int(random.integers(0, 20)), replace=False)
            code = codes[-1] ^ sum(1 << int(bit) for bit in flips)
        expected = sorted(((code ^ other).bit_count(), n) for n, other in enumerate(codes) if (code ^ other).bit_count() <= radius)
        assert index.near(code) == expected
        index.add(code)
        codes.append(code)


def test_the_index_refuses_what_it_cannot_find():
    for radius in (-1, 16):
        with pytest.raises(ValueError, match="must be 0 to 15"):
            HammingIndex(radius)


def test_signatures_tell_colours_and_light_apart():
    red, blue, black, white = (Image.new("RGB", (40, 30), colour) for colour in ("#c02020", "#2020c0", "black", "white"))
    assert compare(picture_signature(red), picture_signature(red)).__dict__ == {"distance": 0, "colour": 0, "light": 0}
    assert compare(picture_signature(red), picture_signature(blue)).colour > 32
    assert compare(picture_signature(black), picture_signature(white)).light == 255
    index = PictureIndex(NearImage())
    for number, picture in enumerate((red, blue, black)):
        assert index.find(picture_signature(picture)) is None
        index.add(picture_signature(picture), number)
    assert index.find(picture_signature(blue)) == (1, 0)


def test_a_sample_goes_when_all_its_images_are_copies():
    a, b, c = (picture_signature(real_picture(stream(0, "p", i))) for i in range(3))
    rows, owner = np.stack([a, b, a, c, a, b, b]), np.array([0, 0, 3, 4, 4, 6, 6])
    found = near_image.find_copies(rows, owner, NearImage())
    assert found.number.tolist() == [3, 6] and found.of.tolist() == [0, 0]  # 4 has a picture of its own


def test_images_are_judged_by_their_header():
    picture = view(("png", image_bytes(quarters(48, 64))))
    assert check_images(picture, ImageSize(min_side=48, max_side=64, max_aspect=1.4)) is None
    assert check_images(picture, ImageSize(min_side=49)).value == 48
    assert check_images(picture, ImageSize(max_side=63)).reason == "side too long"
    assert check_images(picture, ImageSize(max_aspect=1.3)).value == 1.333
    assert check_images(view(("txt", b"no image")), ImageSize(min_side=9)) is None
    whole = image_bytes(quarters(480, 640))
    assert check_images(view(("png", whole[:200])), ImageSize(min_side=9)) is None  # its pixels are not asked for here
    for bad in (png_bomb(13_000), b"\x89PNG\r\n\x1a\n nothing", b""):
        with pytest.raises(BadMedia):
            check_images(view(("png", bad)), ImageSize())


def test_sounds_and_clips_are_judged_by_their_header():
    sound, clip = view(("wav", sound_bytes(seconds=0.5))), view(("mp4", clip_bytes([0, 0.1, 0.2, 0.3, 0.4])))
    assert check_sounds(sound, SoundSize(0.5, 0.5, 16000)) is None and check_clips(sound, ClipSize(min_side=999)) is None
    assert check_sounds(sound, SoundSize(min_seconds=0.6)).value == 0.5
    assert check_sounds(sound, SoundSize(max_seconds=0.4)).reason == "too long"
    assert check_sounds(sound, SoundSize(min_rate_hz=22050)).value == 16000
    assert check_clips(clip, ClipSize(min_side=48, max_side=64, min_seconds=0.4, max_seconds=0.6)) is None
    assert check_clips(clip, ClipSize(min_side=50)).value == 48
    assert check_clips(clip, ClipSize(max_aspect=1.2)).reason == "aspect too long"
    assert check_clips(clip, ClipSize(min_seconds=0.7)).reason == "too short"
    for bad in (sound_bytes()[:300], b"RIFF nothing at all"):
        with pytest.raises(BadMedia):
            check_sounds(view(("wav", bad)), SoundSize())
    with pytest.raises(BadMedia):
        check_clips(view(("mp4", clip_bytes([0, 0.1])[:500])), ClipSize())


def same(a, b, rule):
    rows = np.concatenate([sign(a, rule), sign(b, rule)])
    return find_copies(rows, np.arange(len(rows))).number.tolist() == [1]


def test_exact_duplicates():
    png, other = image_bytes(quarters()), image_bytes(quarters(50))
    packed = image_bytes(quarters(), compress_level=0)
    flac, wav = sound_bytes("FLAC"), io.BytesIO()
    soundfile.write(wav, *soundfile.read(io.BytesIO(flac), dtype="int16"), format="WAV")
    wav = wav.getvalue()
    assert png != packed
    text = lambda words, file=png: view(("txt", words.encode()), ("png", file))  # noqa: E731
    assert same(text("A  cat"), text("a cat"), Exact())
    assert not same(text("a cat"), text("a dog"), Exact()) and not same(text("a cat"), text("a cat", other), Exact())
    assert same(text("a cat"), text("a dog"), Exact(by="media")) and same(text("a cat"), text("a cat", other), Exact(by="text"))
    assert not same(text("a cat"), text("a cat", packed), Exact()) and same(text("a cat"), text("a cat", packed), Exact(media="pixels"))
    assert not same(view(("wav", flac)), view(("wav", wav)), Exact(by="media"))
    assert same(view(("wav", flac)), view(("wav", wav)), Exact(by="media", media="pixels"))
    assert not same(view(("wav", wav)), view(("wav", sound_bytes(rate_hz=8000, seconds=1))), Exact(media="pixels"))
    assert not same(view(("txt", b"a b")), view(("txt", b"a"), ("txt", b"b")), Exact(by="text"))
    assert sign(view(("txt", b"a")), Exact(by="media")).shape == (0, 16)


def test_pixels_are_compared_as_deep_as_they_are():
    """16-bit grey pictures that are one in 8 bits, and transparent ones that are one on white, are different."""
    deep = [image_bytes(Image.fromarray(np.full((9, 9), value, np.uint16))) for value in (60000, 60001)]
    clear = [image_bytes(Image.new("RGBA", (9, 9), colour)) for colour in ((255, 255, 255, 255), (255, 255, 255, 0))]
    for a, b in (deep, clear):
        assert not same(view(("png", a)), view(("png", b)), Exact(media="pixels"))
        assert (view(("png", a)).pictures[0].signature == view(("png", b)).pictures[0].signature).all()


def test_what_cannot_be_decoded_is_bad_media():
    cut = image_bytes(quarters(480, 640), "JPEG")
    frames = [Image.fromarray(quarters()), Image.fromarray(255 - quarters())]
    animated = io.BytesIO()
    frames[0].save(animated, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    for data in (cut[:len(cut) // 2], png_bomb(13_000), animated.getvalue()):
        with pytest.raises(BadMedia):
            sign(view(("png", data)), Exact(media="pixels"))
        with pytest.raises(BadMedia):
            near_image.sign(view(("png", data)))
