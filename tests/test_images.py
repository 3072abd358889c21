"""Opening, fitting, thumbnails and search of images; damaged and hostile files."""

import base64
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from lookalike import images
from lookalike.errors import (
    ImageTooLargeError,
    LookalikeError,
    NotFoundError,
    StorageError,
    UnreadableImageError,
    UsageError,
)
from lookalike.images import content, formats

LOSSLESS: dict[str, dict[str, object]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {"compression": "tiff_deflate"},
}
FORMATS: dict[str, dict[str, object]] = {
    **LOSSLESS,
    "JPEG": {"quality": 95, "subsampling": 0},
    "GIF": {},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def gradient(width: int = 40, height: int = 24) -> Image.Image:
    """Make a smooth image with different corners, so that every turn is visible and JPEG keeps it."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))


def array(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def off(left: Image.Image, right: Image.Image) -> float:
    assert left.size == right.size
    return float(np.abs(array(left) - array(right)).mean())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = b"", order: str = "<") -> bytes:
    """Classic TIFF: (tag, kind, count, value or offset); `data` begins at byte 512."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = b"".join(
        struct.pack(order + "HHI", *tag[:3])
        + (struct.pack(order + "HH", tag[3], 0) if tag[1:3] == (3, 1) else struct.pack(order + "I", tag[3]))
        for tag in tags
    )
    return (mark + struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4)).ljust(512, b"\0") + data


# Formats and modes


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_opens_by_content_under_any_name(form: str, tmp_path: Path) -> None:
    data = encode(gradient(), form, **FORMATS[form])
    decoded = images.open_image(data)
    expected = gradient()
    if form == "GIF":
        expected = expected.quantize().convert("RGB")
    assert off(decoded, expected) <= (0 if form in LOSSLESS else 2.5 if form != "GIF" else 12)
    assert images.media_type(data) == f"image/{form.lower()}"
    misnamed = tmp_path / "misnamed.jpg"
    misnamed.write_bytes(data)
    np.testing.assert_array_equal(images.load(misnamed, 16), images.load(data, 16))


@pytest.mark.parametrize("form", ["TIFF", "BMP", "PNG", "GIF"])
@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette(mode: str, form: str) -> None:
    source = gradient().convert(mode)
    assert off(images.open_image(encode(source, form)), source.convert("RGB")) == 0


@pytest.mark.parametrize(("form", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("TIFF", "RGBA"), ("WEBP", "RGBA")])
def test_alpha_lies_on_white(form: str, mode: str) -> None:
    source = gradient().convert(mode)
    alpha = np.zeros((24, 40), np.uint8)
    alpha[:, 10:20], alpha[:, 20:] = 128, 255
    source.putalpha(Image.fromarray(alpha))
    decoded = array(images.open_image(encode(source, form, **LOSSLESS[form])))
    opaque = array(source.convert("RGB"))
    assert (decoded[:, :10] == 255).all()
    np.testing.assert_allclose(decoded[:, 10:20], (opaque[:, 10:20] + 255) / 2, atol=1.5)
    np.testing.assert_array_equal(decoded[:, 20:], opaque[:, 20:])


def test_premultiplied_alpha_lies_on_white() -> None:
    # 50 % black, associated: ExtraSamples (338) = 1.
    data = tiff(
        [
            (256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 4, 520), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 512),
            (277, 3, 1, 4), (278, 3, 1, 1), (279, 4, 1, 4), (338, 3, 1, 1),
        ],
        bytes([0, 0, 0, 128]) + bytes(4) + struct.pack("<4H", 8, 8, 8, 8),
    )  # fmt: skip
    assert array(images.open_image(data)).tolist() == [[[127, 127, 127]]]


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_transparent_palette_lies_on_white(form: str) -> None:
    source = Image.new("P", (8, 4), 1)
    source.putpalette([0, 0, 0, 200, 10, 10])
    source.paste(0, (0, 0, 4, 4))
    decoded = array(images.open_image(encode(source, form, transparency=0)))
    assert (decoded[:, :4] == 255).all()
    assert (decoded[:, 4:] == [200, 10, 10]).all()


def test_palette_with_alpha_for_each_colour_lies_on_white() -> None:
    source = Image.new("P", (3, 1))
    source.putpalette([0, 0, 0] * 3)
    source.putdata([0, 1, 2])
    data = encode(source, "PNG", transparency=bytes([0, 102, 255]))
    assert array(images.open_image(data))[0, :, 0].tolist() == [255, 153, 0]


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7))])
def test_the_transparent_colour_of_a_png_lies_on_white(mode: str, key: int | tuple[int, int, int]) -> None:
    source = Image.new(mode, (4, 4), key)
    source.paste(0, (0, 0, 2, 4))
    decoded = array(images.open_image(encode(source, "PNG", transparency=key)))
    assert (decoded[:, 2:] == 255).all()
    assert (decoded[:, :2] == 0).all()


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(form: str) -> None:
    # Pillow writes CMYK JPEGs inverted, with an Adobe marker, as Photoshop does.
    source = gradient().convert("CMYK")
    data = encode(source, form, **FORMATS[form])
    assert (b"Adobe" in data) == (form == "JPEG")
    assert off(images.open_image(data), gradient()) < 3


def test_ycck() -> None:
    # What Photoshop writes: C, M and Y turned into YCbCr as if they were R, G and B, and K inverted (Adobe TN 5116).
    # Pillow writes no YCCK, but it inverts the planes of a CMYK image; so hand it inverted ones and change the marker.
    cyan, magenta, yellow = gradient().split()
    black = Image.new("L", cyan.size, 60)
    planes = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    stored = Image.merge("CMYK", (*(plane.point(lambda value: 255 - value) for plane in planes), black))
    data = bytearray(encode(stored, "JPEG", **FORMATS["JPEG"]))
    data[data.index(b"Adobe") + 11] = 2
    expected = Image.merge("CMYK", (cyan, magenta, yellow, black)).convert("RGB")
    assert off(images.open_image(bytes(data)), expected) < 3


@pytest.mark.parametrize("compression", ["raw", "tiff_deflate"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_of_16_bits_is_scaled(order: str, compression: str) -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], f"{order}u2")
    if compression == "raw":
        tags = [(256, 3, 1, 5), (257, 3, 1, 1), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 512)]
        data = tiff([*tags, (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 10)], values.tobytes(), order)
    else:
        data = encode(Image.fromarray(values.astype("<u2")), "TIFF", compression=compression)
    assert array(images.open_image(data))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_a_png_of_16_bits_is_scaled() -> None:
    values = np.array([0, 256, 32768, 65535], ">u2")
    assert array(images.open_image(png(4, 1, 16, 0, b"\0" + values.tobytes())))[0, :, 0].tolist() == [0, 1, 128, 255]
    colours = np.array([[65535, 32768, 0]], ">u2")
    assert array(images.open_image(png(1, 1, 16, 2, b"\0" + colours.tobytes()))).tolist() == [[[255, 128, 0]]]
    clear = np.array([[65535, 0, 0, 0]], ">u2")
    assert array(images.open_image(png(1, 1, 16, 6, b"\0" + clear.tobytes()))).tolist() == [[[255, 255, 255]]]
    half = np.array([[0, 32768]], ">u2")
    assert array(images.open_image(png(1, 1, 16, 4, b"\0" + half.tobytes()))).tolist() == [[[127, 127, 127]]]


def test_a_tiff_of_16_bits_in_colour_is_scaled() -> None:
    tags = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, 520), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 512)]
    data = tiff(
        [*tags, (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 6)],
        struct.pack("<3H2x3H", 65535, 32768, 0, 16, 16, 16),
    )
    assert array(images.open_image(data)).tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 100, 255]], np.float32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.float32), [0, 1, 255]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, np.inf, -np.inf, 1]], np.float32), [0, 255, 0, 255]),
        (np.array([[np.nan, np.nan]], np.float32), [0, 0]),
        (np.array([[-5, -5]], np.float32), [0, 0]),
        (np.array([[np.nan, 200_000, 100_000]], np.float32), [0, 255, 0]),
        (np.array([[3e38, -3e38]], np.float32), [255, 0]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[0, 50_000, 100_000]], np.int32), [0, 128, 255]),
        (np.array([[-(2**31), 2**31 - 1]], np.int32), [0, 255]),
    ],
)
def test_floats_and_whole_numbers_of_32_bits_take_the_range_that_holds_them(
    values: np.ndarray,
    expected: list[int],
) -> None:
    assert array(images.open_image(encode(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == expected


def test_a_tiff_in_lab_or_ycbcr_opens() -> None:
    data = encode(gradient().convert("YCbCr"), "TIFF", compression="jpeg")
    assert off(images.open_image(data), gradient()) < 2
    assert images.open_image(encode(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF")).getpixel(
        (1, 1)
    ) == pytest.approx((255, 255, 255), abs=1)


def test_an_animated_image_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        options = {"save_all": True, "append_images": frames[1:]} | ({"lossless": True} if form == "WEBP" else {})
        pixel = images.open_image(encode(frames[0], form, **options)).getpixel((4, 4))
        assert isinstance(pixel, tuple)
        np.testing.assert_allclose(pixel, (255, 0, 0), atol=3, err_msg=form)


def test_a_colour_profile_changes_nothing() -> None:
    for profile in (b"no profile at all", bytes(300_000)):
        for form in ("JPEG", "PNG", "WEBP", "TIFF"):
            with_profile = encode(gradient(), form, icc_profile=profile, **FORMATS[form])
            assert (
                off(images.open_image(with_profile), images.open_image(encode(gradient(), form, **FORMATS[form]))) == 0
            )


def test_the_result_is_a_plain_image_without_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    for form in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
        decoded = images.open_image(encode(gradient(), form, exif=exif))
        assert type(decoded) is Image.Image
        assert decoded.info == {}
        assert not decoded.getexif()


# Orientation


def turned(orientation: int) -> Image.Image:
    """Return the gradient as a camera held in this orientation stores it."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose values; 6 is stored turned by 90°
    return gradient() if orientation == 1 else gradient().transpose(Image.Transpose(undo[orientation]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_is_turned_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(turned(orientation), form, exif=exif, **FORMATS[form])
    assert off(images.open_image(data), gradient()) < (0.1 if form in LOSSLESS else 2.5)


@pytest.mark.parametrize("orientation", [0, 1, 9, 255])
def test_an_unknown_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert off(images.open_image(encode(gradient(), "PNG", exif=exif)), gradient()) == 0


def test_orientation_from_big_endian_exif_and_from_xmp() -> None:
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0) + bytes(4)
    assert off(images.open_image(encode(turned(6), "JPEG", exif=exif, quality=95)), gradient()) < 2.5
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    assert off(images.open_image(encode(turned(6), "WEBP", xmp=xmp, lossless=True)), gradient()) == 0
    raw = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  34\n" + exif.hex().encode() + b"\n")
    plain = encode(turned(6), "PNG")
    assert off(images.open_image(plain[:33] + raw + plain[33:]), gradient()) == 0


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12"]
)
def test_damaged_exif_is_ignored(exif: bytes) -> None:
    plain = encode(gradient(), "JPEG")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    assert off(images.open_image(data), images.open_image(plain)) == 0


@pytest.mark.parametrize("key", [b"exif", b"xmp", b"Raw profile type exif", b"XML:com.adobe.xmp"])
def test_text_with_the_name_of_metadata_is_ignored(key: bytes) -> None:
    plain = encode(gradient(), "PNG")
    assert off(images.open_image(plain[:33] + chunk(b"tEXt", key + b"\0\xffhello") + plain[33:]), gradient()) == 0


def test_a_turned_jpeg_at_reduced_scale_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = gradient(800, 480).transpose(Image.Transpose.ROTATE_90)
    decoded = images.open_image(encode(stored, "JPEG", exif=exif), at_least=60)
    assert decoded.size == (200, 120)
    assert off(decoded, gradient(800, 480).resize((200, 120))) < 3


# Reduced scale and fitting


@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((1600, 800), 50, (200, 100)),
        ((1600, 800), 51, (400, 200)),
        ((800, 1600), 50, (100, 200)),
        ((1600, 800), 400, (1600, 800)),
        ((32, 32), 32, (32, 32)),
        ((63, 63), 8, (32, 32)),
        ((65, 65), 8, (17, 17)),
        ((1, 5000), 1, (1, 5000)),
    ],
)
def test_the_shorter_side_stays_twice_the_target(
    size: tuple[int, int],
    at_least: int,
    expected: tuple[int, int],
) -> None:
    decoded = images.open_image(encode(gradient(*size), "JPEG"), at_least=at_least)
    assert decoded.size == expected
    assert min(decoded.size) >= min(2 * at_least, *size)


def test_other_formats_and_no_target_keep_the_full_size() -> None:
    assert images.open_image(encode(gradient(400, 300), "JPEG")).size == (400, 300)
    for form in LOSSLESS:
        assert images.open_image(encode(gradient(400, 300), form), at_least=10).size == (400, 300)


@pytest.mark.parametrize("how", ["squash", "crop", "pad"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_reduced_and_full_decoding_look_the_same(how: images.Fit, mode: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    photo = Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC).convert(mode)
    data = encode(photo, "JPEG", quality=90)
    assert images.open_image(data, at_least=64).size != (1600, 1200)
    full = images.load(images.open_image(data), 64, how).astype(int)
    difference = np.abs(images.load(data, 64, how) - full)
    assert difference.mean() < 1
    assert difference.max() < 16
    assert full.std() > 10


def test_a_jpeg_of_the_target_size_is_pillows_own_decode() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
    data = encode(Image.fromarray(noise), "JPEG")
    for how in ("squash", "crop", "pad"):
        loaded = images.load(data, 32, how)
        np.testing.assert_array_equal(loaded, np.asarray(Image.open(io.BytesIO(data))))
        assert loaded.dtype == np.uint8
        assert loaded.flags.writeable


def bands(width: int, height: int) -> Image.Image:
    """Thirds along the longer side: red, green, blue."""
    image = Image.new("RGB", (width, height), "lime")
    third = max(width, height) // 3
    image.paste("red", (0, 0, third, height) if width > height else (0, 0, width, third))
    image.paste("blue", (width - third, 0, width, height) if width > height else (0, height - third, width, height))
    return image


@pytest.mark.parametrize("tall", [False, True])
def test_each_fit(tall: bool) -> None:
    image = bands(60, 180) if tall else bands(180, 60)
    squash, crop, pad = (images.load(image, 30, how) for how in ("squash", "crop", "pad"))
    if tall:
        squash, crop, pad = (each.swapaxes(0, 1) for each in (squash, crop, pad))
    assert squash.shape == crop.shape == pad.shape == (30, 30, 3)
    assert [squash[15, x].tolist() for x in (4, 15, 25)] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    # Right up to the ends, where bicubic weights reach beyond the cut.
    assert (crop[:, 2:-2] == [0, 255, 0]).all()
    assert np.abs(crop.astype(int) - [0, 255, 0]).max() < 30
    assert (pad[:10] == 255).all()
    assert (pad[20:] == 255).all()
    assert [pad[15, x].tolist() for x in (4, 15, 25)] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("how", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 999), (999, 1), (31, 32), (33, 32), (2, 3)])
def test_any_aspect_fits(size: tuple[int, int], how: images.Fit) -> None:
    assert images.load(Image.new("RGB", size, "red"), 32, how).shape == (32, 32, 3)
    assert images.load(Image.new("RGB", size, "red"), 1, how).shape == (1, 1, 3)


def test_a_crop_of_the_right_height_moves_no_pixel() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (32, 41, 3), np.uint8)
    np.testing.assert_array_equal(images.load(Image.fromarray(noise), 32, "crop"), noise[:, 4:36])


def as_torchvision(image: Image.Image, size: int, how: images.Resizing) -> np.ndarray:
    """Resize, then crop the middle, as torchvision's ``Resize`` and ``CenterCrop`` do with Pillow images."""
    width, height = image.size
    if how.fit == "squash":
        resized = (how.side, how.side)
    elif width <= height:
        resized = (how.side, int(how.side * height / width))
    else:
        resized = (int(how.side * width / height), how.side)
    whole = image.resize(resized, Image.Resampling[how.interpolation.upper()])
    left, top = (round((side - size) / 2.0) for side in resized)
    return np.array(whole.crop((left, top, left + size, top + size)))


@given(
    width=st.integers(20, 300),
    height=st.integers(20, 300),
    size=st.integers(8, 60),
    more=st.integers(0, 20),
    fit=st.sampled_from(["squash", "crop"]),
    interpolation=st.sampled_from(["bilinear", "hamming", "bicubic", "lanczos"]),
)
@settings(max_examples=60, deadline=None)
def test_a_resizing_is_that_of_torchvision(
    width: int, height: int, size: int, more: int, fit: Literal["squash", "crop"], interpolation: images.Interpolation
) -> None:
    coarse = np.random.default_rng(width * height).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height))
    how = images.Resizing(fit, size + more, interpolation)
    result, expected = images.load(image, size, how).astype(float), as_torchvision(image, size, how)
    assert np.abs(result - expected).mean() < 0.5  # level of 256; a shift by half a pixel is ten times as much


def test_a_resizing_of_a_long_image_computes_only_its_crop() -> None:
    long = Image.new("RGB", (60_000, 1), "red")
    assert np.array_equal(images.load(long, 64, images.Resizing("crop", 1024)), np.full((64, 64, 3), (255, 0, 0)))


def test_fitting_does_not_alias() -> None:
    board = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    fitted = images.load(Image.fromarray(board), 32)
    assert np.abs(fitted.astype(int) - 127).max() <= 2


def test_invalid_sizes_and_fits_are_refused() -> None:
    for call in (
        lambda: images.load(gradient(), 0),
        lambda: images.load(gradient(), 8, "stretch"),  # type: ignore[arg-type]
        lambda: images.thumbnail(gradient(), 0),
        lambda: images.open_image(encode(gradient(), "PNG"), at_least=0),
    ):
        with pytest.raises(UsageError):
            call()


# Thumbnails and fingerprints


def test_a_thumbnail_is_a_small_jpeg_of_the_same_aspect() -> None:
    data = images.thumbnail(gradient(1000, 500), 100)
    assert images.media_type(data) == "image/jpeg"
    assert off(images.open_image(data), gradient(1000, 500).resize((100, 50))) < 3
    assert images.open_image(images.thumbnail(gradient(5, 3000))).size == (1, 256)


def test_a_thumbnail_is_never_enlarged() -> None:
    assert images.open_image(images.thumbnail(gradient(40, 24), 256)).size == (40, 24)


def test_a_thumbnail_of_a_palette_is_smooth() -> None:
    board = Image.fromarray((np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)).convert("P")
    assert np.abs(array(images.open_image(images.thumbnail(board, 32))) - 127).max() <= 4


def test_a_thumbnail_has_no_metadata_and_leaves_the_image_alone() -> None:
    image = gradient()
    image.info = {"comment": b"a secret place", "exif": b"Exif\0\0a secret place", "dpi": (72, 72)}
    assert b"secret" not in images.thumbnail(image)
    assert "comment" in image.info
    assert (
        off(
            images.open_image(images.thumbnail(gradient().convert("RGBA"))),
            images.open_image(images.thumbnail(gradient())),
        )
        == 0
    )


def test_a_fingerprint_is_the_sha256_of_the_content() -> None:
    assert images.fingerprint(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert images.fingerprint(b"") == hashlib.sha256().hexdigest()


# Base64


def test_base64_in_every_form() -> None:
    data = b"\xfb\xff\xfe" + bytes(range(256))
    plain = base64.b64encode(data).decode()
    assert {"+", "/", "="} <= set(plain)
    forms: list[str | bytes] = [
        plain,
        plain.encode(),
        plain.rstrip("="),
        base64.urlsafe_b64encode(data),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
        base64.encodebytes(data),
        f" \r\n{plain}\t\n",
        f"data:image/png;base64,{plain}",
        f"DATA:image/svg+xml;charset=x-y;BASE64,\n{plain}",
        f"data:;base64,{plain}",
    ]
    for form in forms:
        assert images.from_base64(form) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "====",
        "A",
        "AAAAA",
        "A=AA",
        "AA*A",
        "héllo",
        "data:image/png,AAAA",
        "data:image/png;base64,",
        "AA,AA",
        b"\xff\xff",
    ],
)
def test_invalid_base64_is_refused(text: str | bytes) -> None:
    with pytest.raises(UnreadableImageError):
        images.from_base64(text)


def test_base64_is_checked_against_the_limit_before_decoding() -> None:
    limits = images.Limits(file_bytes=300)
    assert images.from_base64(base64.b64encode(bytes(300)), limits) == bytes(300)
    with pytest.raises(ImageTooLargeError, match="301 bytes"):
        images.from_base64(base64.b64encode(bytes(301)), limits)
    with pytest.raises(ImageTooLargeError):  # not even valid: the size came first
        images.from_base64("*" * 1000, limits)


@given(st.binary(min_size=1, max_size=200), st.text("\n \t", max_size=3))
def test_base64_round_trip(data: bytes, space: str) -> None:
    assert images.from_base64(space + base64.b64encode(data).decode() + space) == data


# Damaged and hostile files, and files of other formats


def survives(data: bytes, at_least: int | None = None, limits: images.Limits = images.DEFAULT_LIMITS) -> None:
    """Check that opening succeeds or raises a LookalikeError."""
    with contextlib.suppress(LookalikeError):
        assert images.open_image(data, at_least=at_least, limits=limits).mode == "RGB"


@pytest.mark.parametrize("form", FORMATS)
def test_truncation_at_any_byte_is_an_error_or_an_image(form: str) -> None:
    data = encode(gradient(), form, **FORMATS[form])
    refused = 0
    for end in [*range(min(len(data), 600)), *range(600, len(data), 37)]:
        try:
            assert images.open_image(data[:end], at_least=4).mode == "RGB"
        except UnreadableImageError:
            refused += 1
        except ImageTooLargeError:
            pytest.fail(f"cut at {end}: a truncated file is not too large")
    assert refused > 40
    with pytest.raises(UnreadableImageError, match=r"holiday\.png"):
        images.open_image(data[: len(data) // 2], name="holiday.png")


@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    survives(data)


STARTS = [encode(gradient(12, 9), form, **options) for form, options in FORMATS.items()]
STARTS += [
    encode(gradient(12, 9).convert("CMYK"), "JPEG"),
    encode(gradient(12, 9), "JPEG", progressive=True),
    encode(gradient(12, 9).convert("P"), "PNG", transparency=0),
    encode(gradient(12, 9), "TIFF"),
    encode(gradient(12, 9), "TIFF", compression="tiff_lzw"),
    encode(gradient(12, 9), "TIFF", compression="jpeg"),
    encode(gradient(12, 9), "GIF", save_all=True, append_images=[gradient(12, 9).rotate(90)]),
    encode(gradient(12, 9), "PNG", save_all=True, append_images=[gradient(12, 9).rotate(90)]),
]


# Damaged metadata in a TIFF makes Pillow warn, and a warning is an error here: one more case for `open_image`.
@settings(max_examples=600)
@given(
    st.sampled_from(STARTS),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=4),
    st.data(),
)
def test_mutated_files(start: bytes, changes: list[tuple[float, bytes]], data: st.DataObject) -> None:
    mutated = bytearray(start)
    for place, value in changes:
        # Squared: headers are where the interesting damage is.
        at = int(place**2 * (len(mutated) - 1))
        mutated[at : at + len(value)] = value
    if data.draw(st.booleans()):
        mutated += mutated[: data.draw(st.integers(0, 60))]
    survives(bytes(mutated), limits=images.Limits(pixels=1_000_000), at_least=4)


@pytest.mark.parametrize("start", STARTS)
def test_every_byte_of_a_header_set_to_extremes(start: bytes) -> None:
    for at in range(min(len(start), 250)):
        for value in (0, 1, 0x7F, 0xFF):
            survives(start[:at] + bytes([value]) + start[at + 1 :], limits=images.Limits(pixels=1_000_000))


@pytest.mark.parametrize(
    "content",
    [
        b"hello", b"%PDF-1.7 ", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"8BPS\0\2", b"<svg/>", b"P7\nWIDTH 1\n", b"MZ",
        b"\0\0\1\0\1\0\x10\x10", b"\0\0\0\x18ftypqt  \0\0\0\0qt  ", b"RIFF\0\0\0\0WAVE",
    ],
)  # fmt: skip
def test_no_other_format_is_opened(content: bytes) -> None:
    for call in (images.media_type, images.open_image):
        with pytest.raises(UnreadableImageError, match="Save it as JPEG or PNG"):
            call(content.ljust(100, b"\0"))


def test_formats_that_only_pillow_supports_are_refused() -> None:
    for form in ("ICO", "ICNS", "PCX", "DDS", "SGI", "EPS", "PDF"):
        with pytest.raises(UnreadableImageError):
            images.open_image(encode(gradient(32, 32), form))


def test_empty_bytes_are_refused() -> None:
    for call in (images.open_image, images.read_bytes, images.media_type):
        with pytest.raises(UnreadableImageError):
            call(b"")


def claims(form: str, width: int, height: int) -> bytes:
    """Make a small file whose header claims a large image."""
    if form == "PNG":
        return png(width, height, 8, 2, b"\0" * 100)
    if form == "GIF":
        data = bytearray(encode(gradient(), "GIF"))
        data[6:10] = struct.pack("<HH", width, height)
        return bytes(data)
    if form == "BMP":
        data = bytearray(encode(gradient(), "BMP"))
        data[18:26] = struct.pack("<ii", width, height)
        return bytes(data)
    if form == "JPEG":
        data = bytearray(encode(gradient(), "JPEG"))
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
        return bytes(data)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 512)]
    return tiff([*tags, (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100)], bytes(100))


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "JPEG", "TIFF"])
@pytest.mark.parametrize("side", [10_001, 60_000])
def test_a_header_that_claims_too_much_is_refused(form: str, side: int) -> None:
    with pytest.raises(ImageTooLargeError, match=r"claim\.png is .* by .* pixels"):
        images.open_image(claims(form, side, side), name="claim.png")


def test_the_pixel_limit_does_not_depend_on_pillow() -> None:
    # 96 megapixels: Pillow's own limit would warn.
    data = png(12_000, 8_000, 1, 0, bytes(8_000 * 1_501))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.open_image(data).size == (12_000, 8_000)
    with pytest.raises(ImageTooLargeError):
        images.open_image(data, limits=images.Limits(pixels=95_999_999))


def test_a_gif_frame_larger_than_its_canvas_is_checked_against_the_limit() -> None:
    data = bytearray(encode(gradient(), "GIF"))
    at = data.index(b",", 13 + 3 * (2 << (data[10] & 7)))
    data[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(ImageTooLargeError):
        images.open_image(bytes(data))


def test_a_tiff_tile_larger_than_its_image_is_refused() -> None:
    tags = [(256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    data = tiff([*tags, (322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 512), (325, 4, 1, 100)], bytes(100))
    with pytest.raises((ImageTooLargeError, UnreadableImageError)):
        images.open_image(data)


class _Counted(formats.Reader):
    farthest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        _Counted.farthest = max(_Counted.farthest, self.tell())
        return super().read(size)


def test_only_the_first_of_5000_gif_frames_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    one = encode(gradient(), "GIF")
    start = 13 + 3 * (2 << (one[10] & 7))
    data = one[:start] + one[start:-1] * 5_000 + b";"
    monkeypatch.setattr(content, "Reader", _Counted)
    _Counted.farthest = 0
    assert off(images.open_image(data), images.open_image(one)) == 0
    assert 0 < _Counted.farthest < 100_000 < len(data)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("after", [False, True])
def test_a_decompression_bomb_in_text_is_refused(kind: bytes, after: bool) -> None:
    bomb = chunk(kind, (b"k\0\1\0\0\0" if kind == b"iTXt" else b"k\0\0") + zlib.compress(bytes(100_000_000), 9))
    plain = encode(gradient(), "PNG")
    at = len(plain) - 12 if after else 33
    with pytest.raises(UnreadableImageError):
        images.open_image(plain[:at] + bomb + plain[at:])


@pytest.mark.parametrize("form", ["JPEG", *(pytest.param(form, marks=pytest.mark.no_cover) for form in ("PNG", "GIF"))])
@pytest.mark.slow
def test_a_million_empty_parts_are_refused(form: str) -> None:
    data = encode(gradient(), form)
    at = {"JPEG": 2, "PNG": 33, "GIF": 13 + 3 * (2 << (data[10] & 7))}[form]
    part = {"JPEG": b"\xff\xfe\0\2", "PNG": chunk(b"teXt", b""), "GIF": b"!\xfe\1x\0"}[form]
    assert off(images.open_image(data[:at] + part * 100 + data[at:]), images.open_image(data)) == 0
    with pytest.raises(UnreadableImageError, match="more parts"):
        images.open_image(data[:at] + part * 1_000_000 + data[at:])


def test_a_jpeg_with_too_many_scans_is_refused() -> None:
    data = encode(gradient(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert images.open_image(data[:-2] + scan * 20 + data[-2:]).size == (40, 24)
    with pytest.raises(ImageTooLargeError, match="scans"):
        images.open_image(data[:-2] + scan * 200 + data[-2:])


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_a_million_strips_is_refused(order: str) -> None:
    tags = [(256, 4, 1, 1), (257, 4, 1, 1_000_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    data = tiff([*tags, (273, 4, 1_000_000, 512), (278, 4, 1, 1), (279, 4, 1_000_000, 512)], bytes(4_000_000), order)
    with pytest.raises(ImageTooLargeError, match="strips"):
        images.open_image(data)


def test_a_memory_error_becomes_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(formats.DECODERS["image/png"], "load", full)
    with pytest.raises(ImageTooLargeError, match="memory"):
        images.open_image(encode(gradient(), "PNG"))


def test_many_threads_give_the_same_pixels() -> None:
    files = [encode(gradient(300, 200 + i), form, **FORMATS[form]) for i in range(4) for form in FORMATS]
    alone = [images.load(data, 48) for data in files]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: images.load(data, 48), files * 3))
    for i, loaded in enumerate(together):
        np.testing.assert_array_equal(loaded, alone[i % len(files)])


def test_nothing_global_in_pillow_is_changed() -> None:
    assert Image.MAX_IMAGE_PIXELS == 1024 * 1024 * 1024 // 4 // 3
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


# Files


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "naïve\nname \udcff.png"
    path.write_bytes(b"content")
    assert images.read_bytes(path) == b"content"
    assert images.read_bytes(b"content") == b"content"


def test_messages_name_the_file_on_one_printable_line(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines \udcff.png"
    path.write_bytes(b"no image")
    with pytest.raises(UnreadableImageError) as caught:
        images.load(path, 8)
    message = str(caught.value)
    assert "two\\nlines" in message
    assert "\n" not in message
    message.encode()
    with pytest.raises(UnreadableImageError, match="The image"):
        images.load(b"no image", 8)


@pytest.mark.parametrize("name", ["missing.png", "file.txt/x.png", "n\0l.png"])
def test_a_missing_file_is_reported(name: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(UnreadableImageError if "\0" in name else NotFoundError):
        images.read_bytes(tmp_path / name)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(UnreadableImageError, match="folder or a device"):
            images.read_bytes(path)
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        images.read_bytes(tmp_path / "loop.png")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(UnreadableImageError, match=r"empty\.png.* is empty"):
        images.read_bytes(tmp_path / "empty.png")


def test_the_size_limit_is_checked_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ImageTooLargeError, match=r"sparse\.png"):
        images.read_bytes(path)
    small = images.Limits(file_bytes=10)
    assert images.read_bytes(bytes(10), small) == bytes(10)
    for call in (images.read_bytes, lambda data, limits: images.open_image(data, limits=limits)):
        with pytest.raises(ImageTooLargeError, match="11 bytes"):
            call(bytes(11), small)


def forbid(monkeypatch: pytest.MonkeyPatch, owner: object, function: str, forbidden: Path) -> None:
    """Make a function raise PermissionError for a path; root in a container may read everything."""
    real = getattr(owner, function)

    def guarded(path: Path, *rest: object, **options: object) -> object:
        if path == forbidden:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(owner, function, guarded)


def test_a_file_without_read_permission_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encode(gradient(), "PNG"))
    forbid(monkeypatch, Path, "open", path)
    with pytest.raises(UnreadableImageError, match=r"secret\.png.*Permission denied"):
        images.read_bytes(path)


def test_limits_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.DEFAULT_LIMITS.pixels = 1  # type: ignore[misc]
    assert images.Limits(file_bytes=256 * 2**20, pixels=100_000_000) == images.DEFAULT_LIMITS


# Finding


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def listed(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in images.find(folder)]


def test_find_selects_by_ending_and_sorts(tmp_path: Path) -> None:
    touch(
        tmp_path, "b/2.PNG", "b/10.jpg", "a.JPEG", "b-c/x.avif", "c/d/é\n.webp", "Z.tif", "b/notes.txt", "b/png", "jpg"
    )
    expected = ["Z.tif", "a.JPEG", "b/10.jpg", "b/2.PNG", "b-c/x.avif", "c/d/é\n.webp"]
    assert listed(tmp_path) == expected
    for ending in images.SUFFIXES:
        touch(tmp_path / "all", f"x{ending}")
    assert len(images.find(tmp_path / "all")) == len(images.SUFFIXES) >= 10


def test_find_skips_hidden_and_system_files(tmp_path: Path) -> None:
    touch(
        tmp_path, ".hidden.png", "._ghost.jpg", ".thumbnails/a.png", "@eaDir/b.png", "__MACOSX/c.png", "Thumbs.db/d.png"
    )
    touch(tmp_path, "shop.lookalike/cache/e.png", "deep/.git/f.png", "deep/@EADIR/g.png", "deep/kept.png")
    assert listed(tmp_path) == ["deep/kept.png"]
    touch(tmp_path, ".hidden/x.png")
    assert listed(tmp_path / ".hidden") == ["x.png"]


def test_find_follows_links_once_and_prefers_real_paths(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    touch(inside, "real/1.png")
    touch(outside, "2.png", "deep/3.png")
    (inside / "a-link-to-real").symlink_to(inside / "real")
    (inside / "real" / "loop").symlink_to(inside)
    (inside / "self").symlink_to(inside / "self")
    (inside / "x").symlink_to(outside)
    (inside / "y").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    (inside / "link.png").symlink_to(outside / "2.png")
    (tmp_path / "entrance").symlink_to(inside)
    expected = ["link.png", "real/1.png", "x/2.png", "x/deep/3.png"]
    assert listed(inside) == expected
    assert listed(tmp_path / "entrance") == expected


def test_find_lists_no_folders_and_no_pipes(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    touch(tmp_path, "folder.png/in.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert listed(tmp_path) == ["folder.png/in.png"]


def test_find_reports_folders_that_it_cannot_list_and_continues(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    touch(tmp_path, "open/1.png", "shut/2.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    forbid(monkeypatch, os, "scandir", tmp_path / "shut")
    errors: list[OSError] = []
    assert images.find(tmp_path, errors.append) == [tmp_path / "open/1.png"]
    assert {Path(error.filename).name for error in errors} == {"shut", "gone.png"}
    assert not caplog.records
    assert listed(tmp_path) == ["open/1.png"]
    assert "shut" in caplog.text
    assert "gone.png" in caplog.text


def test_find_needs_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "file.png")
    with pytest.raises(NotFoundError):
        images.find(tmp_path / "missing")
    with pytest.raises(UsageError, match="not a folder"):
        images.find(tmp_path / "file.png")
    assert images.find(tmp_path) == [tmp_path / "file.png"]
    forbid(monkeypatch, os, "scandir", tmp_path)
    with pytest.raises(StorageError, match="Permission denied"):
        images.find(tmp_path)


def test_survey_takes_images_by_content_and_counts_other_kinds(tmp_path: Path) -> None:
    jpeg, pdf = encode(gradient(), "JPEG"), b"%PDF-1.7 "
    taken = ["IMG_1.HEIC", "noending", "photo.jpg_large", "shot.png", "x.bak", "scan.pdf", "icon.ico"]
    for name in taken:
        (tmp_path / name).write_bytes(jpeg)
    others = {
        "x.jxl": b"", "y": b"\xff\x0a\0", "live.MOV": b"", "clip": b"\0\0\0\x14ftypisom", "paper": pdf, "a/b.pdf": pdf,
        "logo.svg": b'<?xml version="1.0"?>\n<svg/>', "art.ai": pdf, "draft.psb": b"8BPS\0\2",
    }  # fmt: skip
    plain = [
        "notes.txt",
        "IMG_2.xmp",
        "IMG_2.AAE",
        "Makefile",
        "data.bin",
        "empty",
        "song.mp3",
        "jpeg.txt",
        "page.html",
    ]
    for name in plain:
        (tmp_path / name).write_bytes(jpeg if name == "jpeg.txt" else b"text")
    for name, head in others.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(head)
    found = images.survey(tmp_path)
    assert [path.name for path in found.paths] == sorted(taken)
    assert {other.kind: other.count for other in found.not_taken} == {
        "Illustrator": 1, "JPEG XL": 2, "PDF": 2, "PSB": 1, "SVG": 1, "video": 2,
    }  # fmt: skip
    assert images.find(tmp_path) == list(found.paths)
    assert (
        images.describe_not_taken(found.not_taken)
        == "Not taken: 1 Illustrator, 2 JPEG XL, 2 PDFs, 1 PSB, 1 SVG, 2 videos."
    )
    assert images.describe_not_taken([]) == ""
    assert str(images.NotTaken("HEIC", 4, "heif")) == (
        "4 HEIC (needs the extra “heif”: pip install 'lookalike[heif]' — from a clone: pip install '.[heif]')"
    )
    assert str(images.NotTaken("icon", 2)) == "2 icons"


@pytest.mark.parametrize("suffix", ["sgi", "xbm", "xpm", "dpx", "clip", "pdn", "livp", "mng"])
def test_survey_counts_rare_kinds(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"x.{suffix}").write_bytes(b"any")
    assert [other.count for other in images.survey(tmp_path).not_taken] == [1]


def test_survey_does_not_open_files_that_are_plainly_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "b.txt", "c.json", "d.xmp", "e.mov", "f.mp4")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.heic")
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("opened"))
    assert [path.name for path in images.survey(tmp_path).paths] == ["a.jpg"]
