"""Formats beyond those of browsers: JPEG 2000, PSD, TGA, PNM, HEIC and RAW, with and without their extras."""

import contextlib
import io
import os
import struct
from pathlib import Path

import httpx
import numpy as np
import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lookalike import encoders, images
from lookalike.collection import Collection
from lookalike.errors import ImageTooLargeError, LookalikeError, UnreadableImageError
from lookalike.images import formats
from lookalike.images.limits import MAX_PIXELS
from lookalike.server import create_app
from pocket_server import serving


def scene(width: int = 60, height: int = 40) -> Image.Image:
    """Make a smooth image with different corners."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def heic(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, chroma=444, **options)
    return file.getvalue()


def psd(image: Image.Image, depth: int = 8, version: int = 1) -> bytes:
    """Make a PSD without layers."""
    planes = b"".join(plane.tobytes() for plane in image.split())
    mode = {"L": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}[image.mode]
    head = struct.pack(">4sH6xHIIHH", b"8BPS", version, len(image.mode), image.height, image.width, depth, mode)
    return head + bytes(12) + b"\0\0" + planes


def directory(start: int, tags: dict[int, tuple[str, list[int]]]) -> bytes:
    """Make a directory of a TIFF, with the values that do not fit behind it."""
    body, extra, behind = struct.pack("<H", len(tags)), b"", start + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        number = {"B": 1, "s": 2, "H": 3, "I": 4, "R": 10}[kind]
        data = bytes(values) if kind in "Bs" else struct.pack(f"<{len(values)}{kind.replace('R', 'i')}", *values)
        count = len(values) // 2 if kind == "R" else len(values)
        body += struct.pack("<HHI", tag, number, count)
        if len(data) <= 4:
            body += data.ljust(4, b"\0")
        else:
            body += struct.pack("<I", behind + len(extra))
            extra += data + bytes(len(data) % 2)
    return body + bytes(4) + extra


def dng(image: Image.Image, preview: bytes = b"", orientation: int = 1) -> bytes:
    """Make a DNG of a Bayer sensor, as a phone does, with a JPEG preview."""
    red, green, blue = (np.asarray(plane).astype("<u2") * 200 for plane in image.split())
    sensor = green.copy()
    sensor[0::2, 0::2], sensor[1::2, 1::2] = red[0::2, 0::2], blue[1::2, 1::2]
    matrix = [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]
    first: dict[int, tuple[str, list[int]]] = {
        254: ("I", [1]), 271: ("s", [*b"Maker\0"]), 272: ("s", [*b"Model\0"]), 274: ("H", [orientation]), 330: ("I", [0]),
        50706: ("B", [1, 4, 0, 0]), 50708: ("s", [*b"Maker Model\0"]), 50721: ("R", matrix), 50778: ("H", [21]),
    }  # fmt: skip
    if preview:
        with Image.open(io.BytesIO(preview)) as opened:
            width, height = opened.size
        first |= {
            256: ("I", [width]), 257: ("I", [height]), 258: ("H", [8, 8, 8]), 259: ("H", [7]), 262: ("H", [6]),
            273: ("I", [0]), 277: ("H", [3]), 278: ("I", [height]), 279: ("I", [len(preview)]),
        }  # fmt: skip
    second: dict[int, tuple[str, list[int]]] = {
        254: ("I", [0]), 256: ("I", [image.width]), 257: ("I", [image.height]), 258: ("H", [16]), 259: ("H", [1]),
        262: ("H", [32803]), 273: ("I", [0]), 277: ("H", [1]), 278: ("I", [image.height]), 279: ("I", [sensor.nbytes]),
        33421: ("H", [2, 2]), 33422: ("B", [0, 1, 1, 2]), 50714: ("H", [0]), 50717: ("I", [255 * 200]),
    }  # fmt: skip
    sub = 8 + len(directory(8, first))
    at = sub + len(directory(sub, second))
    preview += bytes(len(preview) % 2)
    first[330] = ("I", [sub])
    if preview:
        first[273] = ("I", [at])
    second[273] = ("I", [at + len(preview)])
    return b"II*\0\x08\0\0\0" + directory(8, first) + directory(sub, second) + preview + sensor.tobytes()


EXACT = {
    "PSD": ("image/vnd.adobe.photoshop", psd(scene())),
    "TGA": ("image/x-tga", encode(scene(), "TGA")),
    "TGA, packed": ("image/x-tga", encode(scene(), "TGA", compression="tga_rle")),
    "PPM": ("image/x-portable-anymap", encode(scene(), "PPM")),
    "PPM, text": ("image/x-portable-anymap", b"P3\n# x\n60 40 255\n" + " ".join(map(str, scene().tobytes())).encode()),
    "JPEG 2000": ("image/jp2", encode(scene(), "JPEG2000")),
    "JPEG 2000, bare": ("image/jp2", encode(scene(), "JPEG2000", no_jp2=True)),
}
NEAR = {
    "HEIC": ("image/heic", heic(scene())),
    "RAW": ("image/x-raw", dng(scene(1200, 800), encode(scene(960, 640), "JPEG"))),
}
ALL = EXACT | NEAR
SUFFIX = {"PSD": "psd", "TGA": "tga", "PPM": "ppm", "JPEG 2000": "jp2", "HEIC": "heic", "RAW": "dng"}


@pytest.mark.parametrize("kind", ALL)
def test_each_format_opens_by_content_under_any_name(kind: str, tmp_path: Path) -> None:
    media, data = ALL[kind]
    assert images.media_type(data) == media
    (tmp_path / "misnamed.jpg").write_bytes(data)
    for source in (data, tmp_path / "misnamed.jpg"):
        opened = images.open_image(source)
        expected = scene() if opened.size == (60, 40) else scene(960, 640)
        off = np.abs(np.asarray(opened).astype(int) - np.asarray(expected).astype(int))
        assert off.mean() <= (0 if kind in EXACT else 3)
        assert images.dimensions(source) == ((1200, 800) if kind == "RAW" else (60, 40))
        assert not images.is_animated(source)
        assert images.claimed_pixels(source) in {60 * 40, 2 * 60 * 40, 1200 * 800}
        assert images.load(source, 16).shape == (16, 16, 3)
        assert images.thumbnail(source, 32).startswith(b"\xff\xd8")


@pytest.mark.parametrize("kind", ALL)
def test_half_a_file_is_refused(kind: str) -> None:
    data = ALL[kind][1]
    if kind == "RAW":
        data = dng(scene(1200, 800))
    for part in (data[: len(data) // 2], data[: len(data) * 3 // 4]):
        with pytest.raises(UnreadableImageError, match="damaged"):
            images.open_image(part)


@pytest.mark.parametrize("kind", ALL)
def test_the_limit_of_pixels_holds(kind: str) -> None:
    with pytest.raises(ImageTooLargeError, match="pixels"):
        images.open_image(ALL[kind][1], limits=images.Limits(pixels=1_000))


def test_find_takes_them_by_suffix_and_by_content(tmp_path: Path) -> None:
    for kind, suffix in SUFFIX.items():
        (tmp_path / f"a.{suffix}").write_bytes(ALL[kind][1])
        (tmp_path / f"b.{suffix.upper()}").write_bytes(ALL[kind][1])
        (tmp_path / f"c-{suffix}").write_bytes(ALL[kind][1])
    found = images.survey(tmp_path)
    assert {path.name for path in found.paths} == {
        *(f"a.{suffix}" for suffix in SUFFIX.values()),
        *(f"b.{suffix.upper()}" for suffix in SUFFIX.values()),
        *(f"c-{suffix}" for suffix in SUFFIX.values() if suffix != "tga"),
    }
    assert found.not_taken == ()


def test_without_an_extra_its_images_are_counted_and_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "is_installed", lambda _package: False)
    for name in ("IMG_1.HEIC", "IMG_2.heic", "IMG_3"):
        (tmp_path / name).write_bytes(ALL["HEIC"][1])
    for name in ("a.dng", "b.NEF"):
        (tmp_path / name).write_bytes(ALL["RAW"][1])
    (tmp_path / "jpeg.HEIC").write_bytes(encode(scene(), "JPEG"))
    (tmp_path / "x.cr3").write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\0")
    found = images.survey(tmp_path)
    assert [path.name for path in found.paths] == ["jpeg.HEIC"]
    assert images.describe_not_taken(found.not_taken) == (
        "Not taken: 3 HEIC (needs the extra “heif”: pip install 'lookalike[heif]' — from a clone: pip install '.[heif]'),"
        " 3 RAW (needs the extra “raw”: pip install 'lookalike[raw]' — from a clone: pip install '.[raw]')."
    )
    for kind, extra in (("HEIC", "heif"), ("RAW", "raw")):
        (tmp_path / "one").write_bytes(ALL[kind][1])
        for source in (ALL[kind][1], tmp_path / "one"):
            for call in (images.open_image, images.dimensions, images.claimed_pixels):
                with pytest.raises(UnreadableImageError, match=rf"{kind} image.*pip install 'lookalike\[{extra}\]'"):
                    call(source)


# HEIC


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_heic_is_upright(orientation: int) -> None:
    stored = scene()
    if orientation in {5, 6, 7, 8}:
        stored = scene().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = images.open_image(heic(stored, exif=exif.tobytes()))
    by_jpeg = images.open_image(encode(stored, "JPEG", exif=exif, quality=95, subsampling=0))
    assert opened.size == by_jpeg.size
    assert np.abs(np.asarray(opened).astype(int) - np.asarray(by_jpeg).astype(int)).mean() < 3


def test_a_transparent_heic_lies_on_white() -> None:
    clear = scene().convert("RGBA")
    clear.putalpha(0)
    clear.paste((9, 9, 9, 255), (0, 0, 30, 40))
    opened = np.asarray(images.open_image(heic(clear)))
    assert opened[20, 50].min() > 250
    assert opened[20, 10].max() < 30


def test_the_first_of_several_heic_images_is_decoded() -> None:
    several = pillow_heif.from_pillow(scene())
    several.add_from_pillow(Image.new("RGB", (60, 40), "red"))
    file = io.BytesIO()
    several.save(file, quality=95, chroma=444, primary_index=0)
    opened = np.asarray(images.open_image(file.getvalue())).astype(int)
    assert np.abs(opened - np.asarray(scene()).astype(int)).mean() < 3
    assert images.is_animated(file.getvalue())


# RAW


def test_a_raw_image_shows_its_preview_upright() -> None:
    preview = encode(scene(960, 640), "JPEG", quality=95)
    data = dng(scene(1200, 800), preview, orientation=6)
    assert images.dimensions(data) == (800, 1200)
    opened = images.open_image(data)
    expected = images.open_image(preview).transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(expected))
    np.testing.assert_array_equal(images.load(data, 32), images.load(images.open_image(data, at_least=32), 32))


@pytest.mark.parametrize("preview", [b"", encode(Image.new("RGB", (160, 106), "red"), "JPEG")])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_raw_image_without_a_large_preview_is_developed_at_half_its_size(preview: bytes, orientation: int) -> None:
    opened = images.open_image(dng(scene(600, 400), preview, orientation))
    assert opened.size == ((300, 200) if orientation == 1 else (200, 300))
    pixels = np.asarray(opened if orientation == 1 else opened.transpose(Image.Transpose.ROTATE_90)).astype(int)
    assert pixels[5, -5, 0] > pixels[5, 5, 0] + 50  # more red to the right
    assert pixels[-5, 5, 1] > pixels[5, 5, 1] + 50  # more green below


def test_a_tiff_is_no_raw_image() -> None:
    for options in ({}, {"compression": "tiff_lzw"}, {"big_tiff": True}):
        assert images.media_type(encode(scene(), "TIFF", **options)) == "image/tiff"
    for mark in (b"FUJIFILMCCD-RAW 0201", b"IIU\0", b"IIRO", b"\0\0\0\x18ftypcrx ", b"II*\0\x10\0\0\0CR\2\0"):
        assert images.media_type(mark.ljust(100, b"\0")) == "image/x-raw"


def test_the_reason_of_a_damaged_raw_image_is_text() -> None:
    data = b"FUJIFILMCCD-RAW 0201".ljust(300, b"\0")
    for read in (images.open_image, images.dimensions):
        with pytest.raises(UnreadableImageError, match=r"\(Unsupported file format or not RAW file\)"):
            read(data)


# Others


def test_a_psd_of_16_bits_or_for_large_documents_is_refused() -> None:
    with pytest.raises(UnreadableImageError):
        images.open_image(psd(scene(), depth=16))
    with pytest.raises(UnreadableImageError, match="PSB"):
        images.open_image(psd(scene(), version=2))


def test_a_large_pnm_that_python_would_decode_is_refused() -> None:
    images.open_image(b"P5 300 200 1023\n" + bytes(300 * 200 * 2))
    for head in (b"P5 3000 2000 1023\n", b"P2 3000 2000 255\n"):
        with pytest.raises(UnreadableImageError, match="PNM"):
            images.open_image(head + bytes(100))


@pytest.mark.parametrize(
    "content",
    [b"BM is a car", b"P5 Media", b"P6\n", b"\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\x18\0", b"\0" * 50, b"\1\0\2\0" * 9],
)
def test_a_few_bytes_in_common_make_no_image(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="not an image of a supported format"):
        images.media_type(content)
    (tmp_path / "unknown").write_bytes(content)
    assert images.find(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"%PDF-1.7", "PDF"), (b"<svg/>", "SVG"), (b"\0\0\0\x14ftypqt  ", "video"), (b"%!PS-Adobe-3.0", "EPS")],
)
def test_the_message_names_the_kind_of_another_file(content: bytes, kind: str) -> None:
    with pytest.raises(UnreadableImageError, match=rf"supported format \({kind}\)"):
        images.open_image(content)


def test_special_files_never_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.heic")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "zero.cr2").symlink_to("/dev/zero")
    assert images.survey(tmp_path) == images.Found((), ())
    for name in ("pipe", "link", "zero.cr2"):
        for call in (
            images.open_image,
            images.dimensions,
            images.is_animated,
            images.claimed_pixels,
            images.read_bytes,
        ):
            with pytest.raises(UnreadableImageError, match="folder or a device"):
                call(tmp_path / name)


@settings(max_examples=200, suppress_health_check=[HealthCheck.data_too_large])
@given(
    st.sampled_from([*ALL.values()]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=4),
)
def test_mutated_files(start: tuple[str, bytes], changes: list[tuple[float, bytes]]) -> None:
    mutated = bytearray(start[1])
    for place, value in changes:
        at = int(place**3 * (len(mutated) - 1))  # headers are where the interesting damage is
        mutated[at : at + len(value)] = value
    with contextlib.suppress(LookalikeError):
        assert images.open_image(bytes(mutated), limits=images.Limits(pixels=2_000_000), at_least=4).mode == "RGB"


def test_the_reference_has_all_formats_endings_and_limits() -> None:
    page = (Path(__file__).parent.parent / "docs/reference/images.md").read_text(encoding="utf-8")
    for form in formats.FORMATS.values():
        reader = f"extra `{form.extra}`" if form.extra else "core"
        assert f"| {form.name} | {' '.join(form.suffixes)} | {reader} |" in page
    for number in (images.DEFAULT_LIMITS.pixels, images.DEFAULT_LIMITS.file_bytes, formats._MAX_READS):
        assert f"{number:,}" in page
    assert MAX_PIXELS in page


@pytest.mark.parametrize("kind", ["HEIC", "RAW"])
def test_a_collection_and_a_server_take_them(kind: str, tmp_path: Path) -> None:
    data = ALL[kind][1]
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / f"a.{SUFFIX[kind]}").write_bytes(data)
    (photos / "b.png").write_bytes(encode(scene().rotate(90), "PNG"))
    with Collection.create(tmp_path / "shop", encoders.load("copies")) as shop:
        assert shop.add(photos).embedded == 2
        assert shop.search(data, k=1).hits[0].item.uri.endswith(SUFFIX[kind])
        with serving(create_app([shop])) as url, httpx.Client(base_url=url) as client:
            found = client.post("/api/collections/shop/search", files={"image": ("x", data)}).json()["hits"]
            assert found[0]["name"] == f"a.{SUFFIX[kind]}"
            added = client.post("/api/collections/shop/items", files={"image": ("x", data)})
            assert added.status_code == 201
            thumbnail = client.get(added.json()["thumbnail"])
            assert thumbnail.headers["content-type"] == "image/jpeg"
            assert Image.open(io.BytesIO(thumbnail.content)).size[0] in {60, 256}
            original = client.get(added.json()["uri"])
            assert original.content == data
            assert original.headers["content-type"] == ALL[kind][0]


def test_only_images_that_cannot_be_read_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "is_installed", lambda _package: False)
    for name in ("secret", "a.heic"):
        (tmp_path / name).write_bytes(b"x")

    def refuse(path: Path, *_rest: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    errors: list[OSError] = []
    assert images.survey(tmp_path, errors.append) == images.Found((), ())
    assert [Path(error.filename).name for error in errors] == ["a.heic"]


@pytest.mark.parametrize("no_jp2", [True, False])
def test_a_jpeg_2000_of_countless_tiles_is_too_large(no_jp2: bool) -> None:
    data = bytearray(encode(scene(), "JPEG2000", no_jp2=no_jp2))
    sizes = data.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">8I", data, sizes, 250, 250, 0, 0, 1, 1, 0, 0)
    with pytest.raises(ImageTooLargeError, match="tiles"):
        images.open_image(bytes(data))
    image = scene(640, 480)
    tiled = encode(image, "JPEG2000", tile_size=(64, 64), no_jp2=no_jp2)
    assert images.open_image(tiled).size == image.size
