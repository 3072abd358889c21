"""An image may be a path, bytes, a Pillow image or an array; any other type is a UsageError."""

import base64
import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lookalike import images
from lookalike.errors import ImageTooLargeError, UnreadableImageError, UsageError

FITS = st.sampled_from(["squash", "crop", "pad"])


def png(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 40)), *draw(st.sampled_from([(), (3,), (4,)])))
    return np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 256, shape, np.uint8)


@settings(max_examples=100)
@given(arrays(), st.integers(1, 50), FITS)
def test_path_bytes_image_and_array_give_the_same_pixels(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, size: int, fit: images.Fit
) -> None:
    data = png(Image.fromarray(array))
    path = tmp_path_factory.getbasetemp() / "same.png"
    path.write_bytes(data)
    expected = images.load(data, size, fit)
    sources: list[images.ImageSource] = [path, str(path), Image.open(io.BytesIO(data)), array]
    for source in sources:
        np.testing.assert_array_equal(images.load(source, size, fit), expected)
        assert images.dimensions(source) == (array.shape[1], array.shape[0])
        assert not images.is_animated(source)
        assert images.thumbnail(source, size) == images.thumbnail(data, size)


@settings(max_examples=100)
@given(arrays())
def test_read_bytes_keeps_files_and_encodes_pixels(array: np.ndarray) -> None:
    data = png(Image.fromarray(array))
    assert images.read_bytes(data) == data
    for source in (array, Image.fromarray(array)):
        content = images.read_bytes(source)
        assert images.media_type(content) == "image/png"
        assert content == images.read_bytes(source)
        np.testing.assert_array_equal(
            np.asarray(images.open_image(content)), np.asarray(images.open_image(data)), strict=True
        )


MODES = [
    "1",
    "L",
    "P",
    "LA",
    "PA",
    "La",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
    "I",
    "F",
    "I;16",
]


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_any_mode_opens(mode: str) -> None:
    steps = {"La": ["LA", "La"], "RGBa": ["RGBA", "RGBa"], "PA": ["P", "PA"], "LAB": [], "I;16": ["I", "I;16"]}
    image = Image.linear_gradient("L").convert("RGB")
    for step in steps.get(mode, [mode]):
        image = image.convert(step)
    if mode == "LAB":
        image = Image.new("LAB", (256, 256))
    assert image.mode == mode
    assert images.load(image, 16).shape == (16, 16, 3)
    assert images.open_image(images.read_bytes(image)).size == (256, 256)


def test_an_image_of_16_bits_is_scaled_and_transparency_lies_on_white() -> None:
    deep = Image.fromarray(np.array([[0, 256, 32768, 65535]], np.uint16))
    assert np.asarray(images.open_image(deep))[0, :, 0].tolist() == [0, 1, 128, 255]
    clear = np.array([[[0, 0, 0, 0], [9, 9, 9, 255]]], np.uint8)
    assert np.asarray(images.open_image(clear))[0, :, 0].tolist() == [255, 9]


def test_the_exif_orientation_of_a_pillow_image_applies() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png(Image.linear_gradient("L").resize((30, 20)), exif=exif)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(images.open_image(opened)), np.asarray(images.open_image(data)))
    assert images.dimensions(opened) == images.dimensions(data) == (20, 30)
    assert images.open_image(images.read_bytes(opened)).size == (20, 30)


def test_the_callers_image_and_array_stay_unchanged() -> None:
    image = Image.linear_gradient("L").convert("RGB")
    image.info = {"comment": b"mine"}
    array = np.asarray(image).copy()
    for source in (image, array):
        loaded = images.load(source, 256)
        loaded[:] = 7
        images.open_image(source).paste(0, (0, 0, 256, 256))
    assert image.info == {"comment": b"mine"}
    assert array.max() == np.asarray(image).max() == 255


def test_an_animated_pillow_image_counts_as_animated(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data = (tmp_path / "a.gif").read_bytes()
    for source in (tmp_path / "a.gif", data, Image.open(io.BytesIO(data))):
        assert images.is_animated(source)


def test_limits_apply_to_pixels_in_memory() -> None:
    limits = images.Limits(pixels=99)
    for source in (np.zeros((10, 10), np.uint8), Image.new("L", (10, 10))):
        for call in (images.open_image, images.read_bytes):
            with pytest.raises(ImageTooLargeError, match="10 by 10 pixels"):
                call(source, limits=limits)
        with pytest.raises(ImageTooLargeError):
            images.load(source, 8, limits=limits)


def test_a_damaged_pillow_image_is_unreadable() -> None:
    data = png(Image.linear_gradient("L"))
    with pytest.raises(UnreadableImageError, match="damaged"):
        images.load(Image.open(io.BytesIO(data[: len(data) // 2])), 8)
    closed = Image.open(io.BytesIO(data))
    closed.close()
    with pytest.raises(UnreadableImageError):
        images.load(closed, 8)


class OddPath(os.PathLike[str]):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_any_path_like_object_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(Image.linear_gradient("L")))
    assert images.load(OddPath(tmp_path / "a.png"), 8).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((4, 4)), "float64"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((4, 0, 3), np.uint8), "no pixels"),
        (np.zeros((3, 32, 32), np.uint8), "shape"),
        (np.zeros((4, 4, 1), np.uint8), "shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
        (np.zeros((), np.uint8), "shape"),
        (Image.new("RGB", (0, 5)), "no pixels"),
        ("", "empty"),
    ],
)
@pytest.mark.parametrize("call", [lambda s: images.load(s, 8), images.open_image, images.read_bytes, images.thumbnail])
def test_arrays_of_another_type_or_shape_are_usage_errors(
    call: Callable[[images.ImageSource], object], source: images.ImageSource, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        call(source)


def test_any_other_type_is_a_usage_error() -> None:
    # In a process without the checks of annotations, as a user has it.
    program = """
        from lookalike import images
        from lookalike.errors import UsageError
        wrong = [None, 7, 1.5, True, ["a.png"], ("a.png",), {"a.png"}, {}, object(), bytearray(b"x"), Exception, print]
        calls = [lambda s: images.load(s, 8), images.open_image, images.read_bytes, images.thumbnail,
                 images.dimensions, images.is_animated]
        for source in wrong:
            for call in calls:
                try:
                    call(source)
                except UsageError as error:
                    assert "uint8 array" in str(error), error
                    assert (type(source).__name__ in str(error)) or source is None, error
                else:
                    raise AssertionError(source)
        print("done")
    """
    run = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "done\n"


def test_a_text_that_is_not_a_path_has_a_short_message() -> None:
    with pytest.raises(UnreadableImageError) as caught:
        images.load("data:image/png;base64," + "A" * 100_000, 8)
    assert len(str(caught.value)) < 600


def test_base64_of_several_megabytes_is_decoded_in_parts() -> None:
    data = os.urandom(3 * 2**20 + 1)
    for text in (base64.b64encode(data), base64.encodebytes(data), base64.urlsafe_b64encode(data).rstrip(b"=")):
        assert images.from_base64(text) == data
    padded = base64.b64encode(b"a" * (3 * 2**18 - 2))  # its padding ends a part
    with pytest.raises(UnreadableImageError):
        images.from_base64(padded + padded)
