"""Images that people have, and that decoders refuse or spoil; the memory that decoding takes."""

import io
import logging
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from lookalike import images
from lookalike.errors import ImageTooLargeError, UnreadableImageError, UsageError
from lookalike.images import webp
from lookalike.images.limits import read_limits


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def scene(width: int = 131, height: int = 97, mode: str = "RGB") -> Image.Image:
    """Make a gradient with grain; its lower half is flat."""
    y, x = np.mgrid[:height, :width]
    grain = np.random.default_rng(1).normal(0, 12, (height, width, 3))
    pixels = np.clip(np.stack([2 * x, 2 * y, x + y], axis=2) + grain, 0, 255).astype(np.uint8)
    pixels[height // 2 :] = 200
    return Image.fromarray(pixels).convert(mode)


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# Files without their end

JPEGS: dict[str, dict[str, object]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0},
    "restarts": {"restart_marker_blocks": 3},
    "progressive restarts": {"progressive": True, "restart_marker_rows": 1},
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_without_its_end_marker_is_accepted_if_all_pixels_are_there(
    kind: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = encode(scene(mode=mode), "JPEG", **JPEGS[kind])
    expected = array(images.open_image(whole))
    assert not caplog.records
    for missing in (1, 2):
        for padding in (0, 1, 5_000):
            caplog.clear()
            opened = images.open_image(whole[:-missing] + bytes(padding), name="'a.jpg'")
            np.testing.assert_array_equal(array(opened), expected)
            assert caplog.record_tuples == [
                ("lookalike.images.content", logging.WARNING, "'a.jpg' has no end marker, but all its pixels.")
            ]
    np.testing.assert_array_equal(images.load(whole[:-2], 16), images.load(whole, 16))


@pytest.mark.parametrize("kind", JPEGS)
def test_a_video_behind_a_jpeg_changes_nothing(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x"
    whole = encode(scene(), "JPEG", exif=exif, **JPEGS[kind])
    video = np.random.default_rng(0).bytes(300_000) + b"\xff\xda\0\x0c" + bytes(50)
    np.testing.assert_array_equal(array(images.open_image(whole + video)), array(images.open_image(whole)))
    assert not caplog.records


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", JPEGS)
def test_a_truncated_jpeg_is_refused(kind: str, mode: str) -> None:
    whole = encode(scene(mode=mode), "JPEG", **JPEGS[kind])
    expected = array(images.open_image(whole))
    start = whole.index(b"\xff\xda")
    for end in [*range(start, len(whole) - 40, 211), *range(len(whole) - 40, len(whole) - 2)]:
        for padding in (b"", bytes(3), bytes(2_000)):
            try:
                opened = images.open_image(whole[:end] + padding)
            except UnreadableImageError:
                continue
            np.testing.assert_array_equal(array(opened), expected)  # the last byte may have no bit that counts
            assert len(whole) - end <= 4


@pytest.mark.parametrize(
    ("form", "options", "missing"),
    [
        ("PNG", {}, 12),  # the chunk IEND
        ("GIF", {}, 1),  # the trailer
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}, 12),
    ],
)
def test_other_files_without_their_end_are_accepted(form: str, options: dict[str, object], missing: int) -> None:
    whole = encode(scene(), form, **options)
    np.testing.assert_array_equal(array(images.open_image(whole[:-missing])), array(images.open_image(whole)))
    with pytest.raises(UnreadableImageError):
        images.open_image(whole[: len(whole) // 2])


# Bits


def png(values: np.ndarray) -> bytes:
    """Encode uint16 values (h, w), (h, w, 3) or (h, w, 4) as PNG."""
    height, width = values.shape[:2]
    colour = {2: 0, 3: 2 if values.shape[-1] == 3 else 6}[values.ndim]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def ramp(largest: int) -> np.ndarray:
    return np.linspace(0, largest, 40 * 30).astype(np.uint16).reshape(30, 40)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_grey_of_16_bits_that_uses_fewer_keeps_its_contrast(bits: int) -> None:
    values = ramp(2**bits - 1)
    expected = (values >> (bits - 8)).astype(int)
    for data in (
        png(values),
        encode(Image.fromarray(values), "TIFF"),
        encode(Image.fromarray(values), "TIFF", compression="tiff_lzw"),
    ):
        np.testing.assert_array_equal(array(images.open_image(data))[..., 0], expected)
    np.testing.assert_array_equal(array(images.open_image(Image.fromarray(values)))[..., 0], expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_that_use_fewer_keep_their_contrast(channels: int, bits: int) -> None:
    values = np.stack([ramp(2**bits - 1), ramp(2**bits - 1)[::-1], ramp(2 ** (bits - 1))], axis=2)
    expected = (values >> (bits - 8)).astype(int)
    if channels == 4:
        values = np.dstack([values, np.full((30, 40), 65535, np.uint16)])
    np.testing.assert_array_equal(array(images.open_image(png(values))), expected)
    for order in "<>":
        np.testing.assert_array_equal(array(images.open_image(tiff(values, order))), expected)


def tiff(values: np.ndarray, order: str) -> bytes:
    """Encode uint16 values (h, w, 3) or (h, w, 4) as an uncompressed TIFF."""
    height, width, channels = values.shape
    bits = 8 + 2 + 12 * 10 + 4
    tags = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, bits), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, bits + 8), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, values.size * 2), (338, 3, 1, 2),
    ][: 10 if channels == 4 else 9]  # fmt: skip
    entries = b"".join(
        struct.pack(order + "HHI", *tag[:3])
        + (struct.pack(order + "HH", tag[3], 0) if tag[1:3] == (3, 1) else struct.pack(order + "I", tag[3]))
        for tag in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags)) + entries
    return head.ljust(bits, b"\0") + struct.pack(order + "4H", *[16] * 4) + values.astype(order + "u2").tobytes()


def test_true_16_bits_keep_their_high_byte() -> None:
    for largest in (2**14, 2**15, 2**16 - 1):
        values = ramp(largest)
        assert array(images.open_image(png(values))).max() == largest >> 8
        np.testing.assert_array_equal(array(images.open_image(png(values)))[..., 0], values >> 8)
        np.testing.assert_array_equal(array(images.open_image(png(np.dstack([values] * 3))))[..., 0], values >> 8)


def test_a_little_more_light_changes_12_bits_little() -> None:
    base = ramp(3_600)
    darker, lighter = (images.load(png((base * factor).astype(np.uint16)), 16).astype(int) for factor in (0.97, 1.03))
    assert np.abs(darker - lighter).max() <= 16


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.array([[0, 100, 4095]], np.int32), 4095),
        (np.array([[0, 100, 1000]], np.int32), 1023),
        (np.array([[0, 100, 4000]], np.float32), 4095),
        (np.array([[0, 0.5, 1.5]], np.float32), 1.5),
        (np.array([[0, 0.5, 0.9]], np.float32), 1),
        (np.array([[0, 20, 60]], np.float32), 255),
        (np.array([[0, 9_000, 16_000]], np.float32), 16383),
    ],
)
def test_signed_and_float_values_take_the_white_of_their_depth(values: np.ndarray, white: float) -> None:
    opened = array(images.open_image(encode(Image.fromarray(values), "TIFF")))
    np.testing.assert_allclose(opened[0, :, 0], values[0] * (255 / white), atol=0.6)


# Transparency


def icon(colour: tuple[int, ...], shape: str, mode: str = "RGBA") -> Image.Image:
    """Draw a bar on a transparent ground."""
    image = Image.new(mode, (32, 32))
    box = (14, 2, 18, 30) if shape == "upright" else (2, 14, 30, 18)
    image.paste(colour, box)
    return image


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("grey", [255, 250, 241])
def test_white_icons_lie_on_black(form: str, grey: int) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    upright, flat = (encode(icon((grey, grey, grey, 255), shape), form, **options) for shape in ("upright", "flat"))
    opened = array(images.open_image(upright))
    assert opened[16, 16].tolist() == [grey] * 3
    assert opened[0, 0].tolist() == [0, 0, 0]
    assert np.abs(array(images.open_image(flat)) - opened).max() == grey
    thumbnail = array(Image.open(io.BytesIO(images.thumbnail(upright))))
    assert thumbnail[0, 0].max() < 20
    assert thumbnail[16, 16].min() > 200


def test_white_icons_of_a_palette_lie_on_black() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 255, 255] * 2)
    image.paste(1, (2, 2, 6, 6))
    for form in ("PNG", "GIF"):
        opened = array(images.open_image(encode(image, form, transparency=0)))
        assert opened[0, 0].tolist() == [0, 0, 0]
        assert opened[4, 4].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    "image",
    [
        icon((0, 0, 0, 255), "flat"),
        icon((255, 255, 200, 255), "flat"),
        icon((255, 255, 255, 255), "flat").resize((32, 32)),
        Image.new("RGBA", (8, 8), (255, 255, 255, 255)),  # opaque
        Image.new("RGBA", (8, 8), (255, 255, 255, 0)),  # empty
    ],
)
def test_other_transparent_images_lie_on_white(image: Image.Image) -> None:
    if image.size == (32, 32) and image.getpixel((16, 16)) == (255, 255, 255, 255):
        image.putpixel((16, 16), (0, 0, 0, 255))  # one dark pixel shows
    expected = Image.new("RGB", image.size, "white")
    expected.paste(image, mask=image)
    np.testing.assert_array_equal(array(images.open_image(image)), array(expected))
    np.testing.assert_array_equal(array(images.open_image(encode(image, "PNG"))), array(expected))


# Ordinary images


def by_pillow(data: bytes) -> np.ndarray:
    """Decode an image by Pillow alone; transparency lies on white."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.mode.startswith("I;16"):
            return np.dstack([np.asarray(image) >> 8] * 3)
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        clear = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(clear, mask=clear)
        return np.asarray(white)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_ordinary_images_keep_their_pixels(form: str) -> None:
    tried = 0
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16"):
        image = scene(mode="RGB")
        if mode in {"LA", "RGBA"}:
            image = image.convert(mode)
            image.putalpha(Image.radial_gradient("L").resize(image.size))
        elif mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        else:
            image = image.convert(mode)
        for options in ({}, {"lossless": True}, {"compression": "tiff_lzw"}, {"progressive": True}):
            try:
                data = encode(image, form, **options)
            except (OSError, ValueError, RuntimeError):
                continue  # the format has no such mode
            tried += 1
            np.testing.assert_array_equal(np.asarray(images.open_image(data)), by_pillow(data))
    assert tried >= 8


# Sizes


def test_a_tiff_beyond_the_limit_of_pillow_opens_without_a_warning() -> None:
    data = encode(Image.new("1", (9_500, 9_500), 1), "TIFF", compression="group4")
    assert images.open_image(data).size == (9_500, 9_500)


@pytest.mark.no_cover  # it reads a million times, and lines that other tests cover
def test_a_header_of_a_million_parts_is_refused(tmp_path: Path) -> None:
    parts = b"8BIM" + bytes(8)
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(4)
    (tmp_path / "a.psd").write_bytes(head + struct.pack(">I", 12 * 100_000) + parts * 100_000 + bytes(500))
    for source in (tmp_path / "a.psd", (tmp_path / "a.psd").read_bytes()):
        for call in (images.dimensions, images.claimed_pixels, images.open_image):
            with pytest.raises(UnreadableImageError, match="more parts"):
                call(source)


def test_a_jpeg_counts_by_its_pixels_after_reduced_decoding() -> None:
    limits = images.Limits(pixels=10_000)
    data = encode(scene(800, 400), "JPEG")
    np.testing.assert_array_equal(images.load(data, 16, limits=limits), images.load(data, 16))
    assert len(images.thumbnail(data, 16, limits=limits)) > 100
    assert images.claimed_pixels(data, at_least=16) == 100 * 50
    with pytest.raises(ImageTooLargeError, match="800 by 400"):
        images.open_image(data, limits=limits)
    # A decoder keeps a progressive image whole.
    slow = encode(scene(800, 400), "JPEG", progressive=True)
    assert images.claimed_pixels(slow, at_least=16) == 800 * 400
    with pytest.raises(ImageTooLargeError, match=r"800 by 400.*LOOKALIKE_MAX_PIXELS"):
        images.load(slow, 16, limits=limits)
    np.testing.assert_array_equal(images.load(data[:-2], 16, limits=limits), images.load(data, 16))


def test_a_small_jpeg_that_claims_a_huge_image_is_refused() -> None:
    data = bytearray(encode(scene(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    for claim in (bytes(data), bytes(data[:-2])):
        assert images.claimed_pixels(claim, at_least=16) == 65_000**2
        with pytest.raises(ImageTooLargeError, match="65,000 by 65,000"):
            images.load(claim, 16)


def test_the_environment_raises_the_limit(tmp_path: Path) -> None:
    assert read_limits(None) == read_limits("") == images.DEFAULT_LIMITS == images.Limits()
    assert read_limits("250000000") == images.Limits(file_bytes=1_000_000_000, pixels=250_000_000)
    assert read_limits("10") == images.Limits(pixels=10)
    for wrong in ("many", "-1", "0", "1.5", "9" * 5_000):
        with pytest.raises(UsageError, match="LOOKALIKE_MAX_PIXELS"):
            read_limits(wrong)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG"])
def test_claimed_pixels(form: str, tmp_path: Path) -> None:
    data = encode(scene(), form)
    (tmp_path / "a").write_bytes(data)
    for source in (data, tmp_path / "a", Image.open(io.BytesIO(data)), np.zeros((97, 131), np.uint8)):
        assert images.claimed_pixels(source) == 97 * 131
    with pytest.raises(UnreadableImageError):
        images.claimed_pixels(b"text")


# WebP


def animation(canvas: tuple[int, int], corner: tuple[int, int], flags: int, frame: bytes, count: int = 2) -> bytes:
    """Make an animated WebP from the first frame of another."""
    file = webp.WebPFile(io.BytesIO(frame))
    start, size = file._chunks[b"ANMF"]
    content = b"".join((side // 2).to_bytes(3, "little") for side in corner) + frame[start + 6 : start + size]
    return webp._pack(canvas, flags, [(b"ANIM", b"\xff\0\xff\xff\0\0"), *[(b"ANMF", content)] * count])


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_decodes_as_pillow_does(mode: str, lossless: bool) -> None:
    one, two = scene(64, 48, mode), scene(64, 48, mode).transpose(Image.Transpose.ROTATE_180)
    if mode == "RGBA":
        one.putalpha(Image.linear_gradient("L").resize((64, 48)))
    animated = encode(one, "WEBP", lossless=lossless, save_all=True, append_images=[two])
    files = [encode(one, "WEBP", lossless=lossless, exif=b"Exif\0\0II*\0", xmp=b"<x/>"), animated]
    files += [animation((100, 90), (20, 10), flags, animated) for flags in (0x02, 0x12)]
    for data in files:
        ours, theirs = webp.WebPFile(io.BytesIO(data)), WebPImageFile(io.BytesIO(data))
        assert (ours.size, ours.is_animated, ours.mode) == (theirs.size, theirs.is_animated, theirs.mode)
        assert (ours.info.get("exif"), ours.info.get("xmp")) == (theirs.info.get("exif"), theirs.info.get("xmp"))
        ours.load()
        theirs.load()
        assert ours.mode == theirs.mode
        assert ours.tobytes() == theirs.tobytes()


def test_a_webp_frame_outside_its_canvas_is_refused() -> None:
    animated = encode(scene(64, 48), "WEBP", save_all=True, append_images=[scene(64, 48, "L")])
    for canvas, corner in (((60, 48), (0, 0)), ((70, 60), (8, 8))):
        with pytest.raises(UnreadableImageError, match="canvas"):
            images.open_image(animation(canvas, corner, 0x02, animated))


# Memory


# A child process for each measurement would take a second to import; a fork begins with the peak of its own memory.
PEAK = """
import os, re, sys, warnings
from pathlib import Path
from lookalike import images
warnings.simplefilter("ignore")
# Not getrusage, which counts the memory of the parent, too.
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
for path, code in zip(sys.argv[1::2], sys.argv[2::2]):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, code
        continue
    before = peak()
    exec(code, {"images": images, "path": path})
    print(peak() - before, flush=True)
    os._exit(0)
"""


def measure_peaks(runs: Iterable[tuple[Path, str]]) -> list[float]:
    """Run each code on its file in a process of its own, and return the MiB by which its memory grew."""
    command = [sys.executable, "-c", PEAK, *(word for path, code in runs for word in (str(path), code))]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(line) for line in run.stdout.splitlines()]


def heic(image: Image.Image) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file)
    return file.getvalue()


def bombs() -> dict[str, bytes]:
    """Make small files of 9 megapixels."""
    side = 3_000
    colour, clear, grey = (Image.new(mode, (side, side), 77) for mode in ("RGB", "RGBA", "L"))
    little = encode(Image.new("RGB", (2, 2)), "WEBP", save_all=True, append_images=[Image.new("RGB", (2, 2), 9)])
    frames = {"save_all": True, "append_images": [Image.new("L", (side, side), 9)]}
    return {
        "webp": encode(clear, "WEBP", lossless=True, method=0),
        "animated webp": animation((side, side), (0, 0), 0x12, little, 200),
        "png": encode(clear, "PNG", compress_level=1),
        "animated png": encode(grey, "PNG", compress_level=1, **frames),
        "bits": encode(Image.new("1", (side, side)), "PNG"),
        "16 bits": png(np.full((side, side), 9, np.uint16)),
        "16 bits in colour": png(np.full((side, side, 4), 9, np.uint16)),
        "gif": encode(grey, "GIF", **frames),
        "floats": encode(Image.new("F", (side, side), 7), "TIFF", compression="tiff_deflate"),
        "cmyk": encode(Image.new("CMYK", (side, side), 7), "TIFF", compression="tiff_deflate"),
        "progressive": encode(Image.new("CMYK", (side, side), 7), "JPEG", progressive=True),
        "no end": encode(colour, "JPEG")[:-2],
        "bmp": encode(Image.new("1", (side, side), 7), "BMP"),
        "avif": encode(colour, "AVIF", speed=10, **frames),
        "tga": encode(clear, "TGA", compression="tga_rle"),
        "heic": heic(clear),
        "jpeg 2000": encode(Image.new("RGBA", (2_100, 2_100), 77), "JPEG2000"),  # it counts twice
    }


@pytest.mark.slow
def test_decoding_takes_at_most_16_bytes_a_pixel(tmp_path: Path) -> None:
    decoded = 16 * 9_000_000 / 2**20 + 11
    header = "images.claimed_pixels(path), images.dimensions(path), images.is_animated(path)"
    most = {"images.open_image(path)": decoded, "images.load(path, 224)": decoded, header: 30}
    runs = []
    for name, data in bombs().items():
        (tmp_path / name).write_bytes(data)
        runs += [(tmp_path / name, code) for code in most]
    for (path, code), peak in zip(runs, measure_peaks(runs), strict=True):
        assert peak < most[code], f"{path.name}: {code} took {peak:.0f} MiB"


def test_an_animation_of_156_bytes_is_refused_or_small(tmp_path: Path) -> None:
    little = encode(Image.new("RGB", (2, 2)), "WEBP", save_all=True, append_images=[Image.new("RGB", (2, 2), 9)])
    data = animation((10_001, 10_000), (0, 0), 0x02, little)
    assert len(data) < 250
    assert images.claimed_pixels(data) == 100_010_000
    assert images.dimensions(data) == (10_001, 10_000)
    (tmp_path / "bomb").write_bytes(data)
    code = "try: images.load(path, 224)\nexcept images.decoding.ImageTooLargeError: pass"
    assert measure_peaks([(tmp_path / "bomb", code)])[0] < 20
