"""Images: every kind of pixel becomes upright 8-bit RGB of one size."""

import numpy as np
import pytest
from make_media import image_bytes, quarters
from PIL import Image

from ernie5.data_pipelines.decode_image import decode_image, to_tensor
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, VisionSize

LIMITS = MediaLimits()
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(pixels):
    """Colours at the four corners of a decoded image, pure: each channel rounded to 0 or 255."""
    places = ((3, 3), (3, -4), (-4, 3), (-4, -4))
    return [tuple(255 if int(v) > 127 else 0 for v in pixels[0, :, y, x]) for y, x in places]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_shape_and_place(kind):
    pixels = decode_image(image_bytes(quarters(), kind), LIMITS)
    assert pixels.shape == (1, 3, 32, 32) and str(pixels.dtype) == "torch.uint8" and pixels.is_contiguous()
    assert corners(pixels) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation, kind):
    upright = Image.fromarray(quarters(48, 64))
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    stored = upright.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    limits = MediaLimits(image_size=VisionSize(height=24, width=32))
    pixels = decode_image(image_bytes(stored, kind, exif=exif), limits)
    assert pixels.shape == (1, 3, 24, 32)
    assert corners(pixels) == [RED, GREEN, BLUE, WHITE]


def test_jpeg_kinds():
    plain = decode_image(image_bytes(quarters(), "JPEG", quality=95), LIMITS).int()
    progressive = decode_image(image_bytes(quarters(), "JPEG", quality=95, progressive=True), LIMITS).int()
    cmyk = decode_image(image_bytes(Image.fromarray(quarters()).convert("CMYK"), "JPEG", quality=95), LIMITS)
    grey = decode_image(image_bytes(Image.fromarray(quarters()).convert("L"), "JPEG"), LIMITS)
    assert (plain - progressive).abs().max() <= 2
    assert corners(cmyk) == [RED, GREEN, BLUE, WHITE]
    assert (grey[:, 0] == grey[:, 1]).all() and grey.shape == (1, 3, 32, 32)


def test_16_bit_is_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    pixels = decode_image(image_bytes(np.tile(ramp, (64, 1))), LIMITS)[0, 0, 16].int()
    assert pixels[0] < 8 and pixels[-1] > 247 and abs(int(pixels[16]) - 132) <= 3
    assert (pixels.diff() > 0).all()


def test_palette_one_bit_and_transparency():
    picture = Image.fromarray(quarters())
    assert corners(decode_image(image_bytes(picture.quantize(8)), LIMITS)) == [RED, GREEN, BLUE, WHITE]
    one_bit = decode_image(image_bytes(Image.new("1", (40, 40), 1)), LIMITS)
    assert (one_bit == 255).all()
    half = np.dstack([quarters(), np.full((48, 64), 255, np.uint8)])
    half[:, :32, 3] = 0  # the left half is transparent: it becomes white, whatever colour it hides
    assert corners(decode_image(image_bytes(half), LIMITS)) == [WHITE, GREEN, WHITE, WHITE]
    palette = picture.quantize(8)
    index_of_red = palette.getpixel((0, 0))
    assert corners(decode_image(image_bytes(palette, transparency=index_of_red), LIMITS)) == [WHITE, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (33, 17), (301, 7)])
def test_odd_sizes(size):
    pixels = decode_image(image_bytes(np.full((*size, 3), (10, 200, 30), np.uint8)), LIMITS)
    assert pixels.shape == (1, 3, 32, 32)
    assert (pixels == pixels.new_tensor([10, 200, 30])[None, :, None, None]).all()


def test_centre_crop_and_antialias():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert (decode_image(image_bytes(wide), LIMITS)[..., 2:-2] > 250).all()
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode_image(image_bytes(stripes), LIMITS)
    assert 120 <= pixels.min() and pixels.max() <= 135


def test_large_jpeg_is_close_to_a_full_decode():
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).resize((1200, 1200), Image.Resampling.BICUBIC)
    full = np.asarray(smooth.resize((32, 32), Image.Resampling.LANCZOS)).astype(int)
    pixels = decode_image(image_bytes(smooth, "JPEG", quality=95), LIMITS)[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(full - pixels).mean() < 2


def test_photos():
    photo = pytest.importorskip("sklearn.datasets").load_sample_image("china.jpg")
    pixels = decode_image(image_bytes(photo, "JPEG", quality=95), MediaLimits(image_size=VisionSize(64, 64)))
    centre = Image.fromarray(photo).crop((106, 0, 533, 427)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(centre).astype(int) - pixels[0].permute(1, 2, 0).numpy().astype(int)).mean() < 3


def test_animations_are_refused():
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    for kind in ("WEBP", "PNG"):
        with pytest.raises(BadMedia, match="animated"):
            decode_image(image_bytes(frames[0], kind, save_all=True, append_images=frames[1:]), LIMITS)


def test_limits_are_checked():
    for options, words in ((dict(num_frames=8), "num_frames = 8 must be 1"), (dict(max_seconds=0), "max_seconds = 0 must be above"),
                           (dict(max_pixels=10**9), "max_pixels"), (dict(fps=float("nan")), "fps")):
        with pytest.raises(ValueError, match=words):
            MediaLimits(**options)
    with pytest.raises(ValueError, match="at least 1 x 1"):
        VisionSize(0, 4)


def test_planes_are_the_pixels_of_the_picture():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    found = to_tensor(Image.fromarray(pixels))
    assert found.shape == (1, 3, 5, 7) and np.array_equal(found[0].numpy(), pixels.transpose(2, 0, 1))
