"""Comparing images by their pixels: arrays, and pairs of files."""

import io
import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from scipy.ndimage import map_coordinates

from lookalike import duplicates, encoders, images, sample
from lookalike.collection import Collection
from lookalike.duplicates import Orientation, SearchRadius, Tier, candidates, pixels
from lookalike.duplicates.candidates import CandidatePairs, confirm_by_pixels
from lookalike.encoders import Encoder
from lookalike.images import load
from recorder import Recorder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("originals")
    sample.write(folder, 24, 3)
    return sorted((folder / "photos").rglob("*.jpg"))


def opened(paths: list[Path]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in paths]


def squares(batch: list[Image.Image], side: int = pixels.SIDE) -> np.ndarray:
    return np.stack([load(image, side) for image in batch])


def recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def marked(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).ellipse((185, 10, 248, 60), fill=(220, 20, 40))
    return image


def warmer(image: Image.Image) -> Image.Image:
    values = np.asarray(image) * np.array([1.1, 1.0, 0.85])
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": recompressed,
    "half": lambda p: p.resize((128, 128)),
    "cropped": lambda p: p.crop((20, 8, 250, 240)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.1),
    "contrast": lambda p: ImageEnhance.Contrast(p).enhance(0.7),
    "paler": lambda p: ImageEnhance.Color(p).enhance(0.5),
    "grey": lambda p: p.convert("L").convert("RGB"),
    "warmer": warmer,
    "blurred": lambda p: p.filter(ImageFilter.GaussianBlur(4)),
    "framed": lambda p: ImageOps.expand(p, 12, "white"),
    "turned a little": lambda p: p.rotate(3, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)),
    "marked": marked,
}


@pytest.mark.parametrize(("side", "count"), [(pixels.SIDE, 6), (pixels.FINE, 3)])
@pytest.mark.parametrize("change", COPIES)
def test_copies_agree_in_either_order(photos: list[Path], change: str, side: int, count: int) -> None:
    originals = opened(photos[:count])
    copies = squares([COPIES[change](image) for image in originals], side)
    assert pixels.agree(squares(originals, side), copies).all()
    assert pixels.agree(copies, squares(originals, side)).all()


@pytest.mark.parametrize(("side", "count"), [(pixels.SIDE, 12), (pixels.FINE, 6)])
def test_different_products_do_not_agree(photos: list[Path], side: int, count: int) -> None:
    batch = squares(opened(photos[:count]), side)
    left, right = np.array(list(itertools.combinations(range(count), 2))).T
    assert not pixels.agree(batch[left], batch[right]).any()


def shirt(colour: tuple[int, int, int], draw: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
    image = Image.new("RGB", (256, 256), "white")
    pen = ImageDraw.Draw(image)
    pen.polygon([(30, 70), (90, 30), (166, 30), (226, 70), (200, 110), (180, 95), (180, 230), (76, 230), (76, 95), (56, 110)], colour)  # fmt: skip
    draw(pen)
    return image


def test_another_print_or_another_colour_does_not_agree() -> None:
    red, blue = (190, 30, 40), (30, 60, 180)
    star = shirt(red, lambda pen: pen.regular_polygon((128, 130, 34), 3, fill="white"))
    ring = shirt(red, lambda pen: pen.ellipse((98, 100, 158, 160), outline="white", width=10))
    other = shirt(blue, lambda pen: pen.regular_polygon((128, 130, 34), 3, fill="white"))
    for one, two in itertools.combinations((star, ring, other), 2):
        assert not pixels.agree(squares([one]), squares([two]))[0]
    assert pixels.agree(squares([star]), squares([recompressed(star)]))[0]


def form(seed: int) -> Image.Image:
    """A page of twenty fields; what is written into them differs."""
    words, image = np.random.default_rng(seed), Image.new("RGB", (620, 877), "white")
    pen = ImageDraw.Draw(image)
    for top in range(50, 850, 40):
        pen.rectangle((50, top, 570, top + 30), outline="black", width=2)
        pen.text((60, top + 6), f"Field {top}", "black", font_size=14)
        pen.text((300, top + 6), " ".join(words.choice(["some", "words", "which", "a", "b"], 3)), "navy", font_size=14)
    return image


def test_forms_filled_in_differently_differ_at_the_higher_resolution() -> None:
    forms = [form(seed) for seed in range(4)]
    left, right = np.array(list(itertools.combinations(range(4), 2))).T
    coarse, fine = (squares(forms, side) for side in (pixels.SIDE, pixels.FINE))
    assert pixels.agree(coarse[left], coarse[right]).all()  # which is why they are compared twice
    assert not pixels.agree(fine[left], fine[right]).any()
    assert pixels.agree(fine, squares([recompressed(image) for image in forms], pixels.FINE)).all()


def test_plain_images_do_not_agree() -> None:
    plain = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 0, 255, 128)])
    assert not pixels.agree(plain, plain[::-1]).any()
    assert not pixels.agree(plain, plain).any()
    assert pixels.agree(plain[:0], plain[:0]).shape == (0,)


@settings(max_examples=3)
@given(st.integers(0, 2**32 - 1))
def test_noise_agrees_only_with_itself_in_any_batch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = np.stack([load(Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)), 64) for _ in range(3)])
    left, right = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    together = pixels.agree(noise[left], noise[right])
    assert np.array_equal(together, left == right)
    assert [
        bool(pixels.agree(noise[[a]], noise[[b]])[0]) for a, b in zip(left, right, strict=True)
    ] == together.tolist()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_sampling_equals_scipy_and_windows_equal_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, maps = rng.random((2, 16, 16, 3), np.float32), rng.normal(0, 0.1, (2, 6)).astype(np.float32)
    x, y = pixels._grid(16)
    values, inside = pixels._sample(layers, maps, x, y)
    for i, m in enumerate(maps.astype(float)):
        across, down = (
            (((1 + m[0]) * x + m[1] * y + m[2]) + 1) * 8 - 0.5,
            ((m[3] * x + (1 + m[4]) * y + m[5]) + 1) * 8 - 0.5,
        )
        for c in range(3):
            plain = map_coordinates(layers[i, :, :, c].astype(float), [down, across], order=1, mode="nearest")
            np.testing.assert_allclose(values[i, :, c], plain, atol=1e-4)
        clear = np.minimum(np.abs(np.abs(across - 7.5) - 8), np.abs(np.abs(down - 7.5) - 8)) > 1e-4
        expected = (across >= -0.5) & (across <= 15.5) & (down >= -0.5) & (down <= 15.5)
        assert np.array_equal(inside[i][clear], expected[clear])
    planes = layers[..., 0]
    plain = [[planes[:, i : i + 8, j : j + 8].mean((1, 2)) for j in (0, 4, 8)] for i in (0, 4, 8)]
    np.testing.assert_allclose(pixels._windows(planes), np.moveaxis(np.array(plain), -1, 0), atol=1e-6)


# ---- pairs

SAME, LEFT, RIGHT = Orientation.SAME, Orientation.LEFT, Orientation.RIGHT


def pairs(*rows: tuple[int, int, float, Orientation]) -> CandidatePairs:
    left, right, distances, orientations = zip(*rows, strict=True)
    numbers = np.array([orientation.number for orientation in orientations], np.uint8)
    confirmed = np.zeros(len(rows), bool)
    return CandidatePairs(np.array(left), np.array(right), np.array(distances, np.float32), numbers, confirmed)


def confirmed(found: CandidatePairs, left: Sequence[Path | None], right: Sequence[Path | None]) -> list[bool]:
    compared, failures = confirm_by_pixels(found, left, right)
    assert failures == []
    flags: list[bool] = compared.confirmed.tolist()
    return flags


def test_pairs_are_compared_in_their_orientation_and_unreadable_images_are_failures(
    photos: list[Path], tmp_path: Path
) -> None:
    copy, turned, broken = tmp_path / "copy.jpg", tmp_path / "turned.png", tmp_path / "broken.jpg"
    with Image.open(photos[0]) as image:
        image.resize((100, 100)).save(copy)
        image.transpose(Image.Transpose.ROTATE_270).save(turned)
    broken.write_bytes(photos[0].read_bytes()[:300])
    files = [photos[0], copy, turned, broken, photos[1], None]
    found = pairs(
        (0, 1, 0.1, SAME), (0, 2, 0.1, RIGHT), (0, 3, 0.0, SAME), (0, 4, 0.1, SAME), (0, 5, 0.1, SAME),
        (1, 2, 0.1, LEFT), (1, 3, 0.1, SAME),
    )  # fmt: skip
    progress = Recorder()
    compared, failures = confirm_by_pixels(found, files, files, progress)
    assert compared.confirmed.tolist() == [True, True, False, False, False, False, False]
    assert [path for path, _ in failures] == [broken]
    assert progress.reports[-1] == ("comparing pixels", 6, 6, "")


def test_indices_of_two_collections_are_of_different_files(photos: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.jpg"
    with Image.open(photos[0]) as image:
        image.resize((100, 100)).save(copy)
    across = pairs((0, 0, 0.1, SAME), (1, 1, 0.1, SAME))
    assert confirmed(across, [photos[0], photos[2]], [copy, photos[3]]) == [True, False]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif", ".avif"])
def test_images_of_several_frames_or_pages_agree_with_no_other(photos: list[Path], tmp_path: Path, suffix: str) -> None:
    first, *rest = (image.resize((160, 160)) for image in opened(photos[:3]))
    files = [tmp_path / f"{name}{suffix}" for name in ("one", "other", "still", "again")]
    for path, more in zip(files, (rest[:1], rest[1:], [], []), strict=True):
        first.save(path, save_all=True, append_images=more)
        assert images.is_animated(path) == bool(more)
    assert confirmed(pairs((0, 1, 0.0, SAME), (0, 2, 0.0, SAME), (2, 3, 0.0, SAME)), files, files) == [
        False,
        False,
        True,
    ]


def test_a_preview_in_a_jpeg_is_not_a_frame(photos: list[Path], tmp_path: Path) -> None:
    first, preview = opened(photos[:2])
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[preview])
    assert not images.is_animated(tmp_path / "phone.jpg")


def test_only_the_nearest_of_too_many_pairs_are_compared_and_the_explanation_has_a_note(
    photos: list[Path], pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "MAX_COMPARED", 1)
    files = [photos[0], photos[0], photos[1], photos[1]]
    assert confirmed(pairs((0, 1, 0.2, SAME), (2, 3, 0.1, SAME)), files, files) == [False, True]
    assert candidates.note_truncation(SearchRadius.fixed(0.2), 1) == SearchRadius.fixed(0.2)
    with Collection.create(tmp_path / "c.lookalike", Encoder.open(pocket)) as collection:
        collection.add(photos[0].parents[1])
        found = duplicates.find_duplicates(collection, SearchRadius.fixed(99))
    assert found.radius.explanation.startswith("as given; ")
    assert f"nearest 1 of its {24 * 23 // 2} pairs" in found.radius.explanation


def test_in_a_shop_of_few_kinds_only_copies_can_go(photos: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    for i, path in enumerate(photos[:14]):
        shutil.copy(path, folder / f"{i:02}.jpg")
        if i < 4:
            with Image.open(path) as image:
                image.resize((128, 128)).save(folder / f"{i:02}-copy.jpg", quality=60)
    encoder = encoders.load("copies")
    with Collection.create(tmp_path / "c.lookalike", encoder) as collection:
        collection.add(folder)
        # A distance at which many different products lie, as in a shop of one kind of thing.
        found = duplicates.find_duplicates(collection, SearchRadius.fixed(1.2))
    near = [{m.path.name[:2] for m in group.members} for group in found if group.tier is Tier.NEAR_DUPLICATE]
    assert sorted(map(list, near)) == [[f"{i:02}"] for i in range(4)]
    assert sum(pair.tier is Tier.SIMILAR for pair in found.pairs) > 30
    assert all(not group.surplus for group in found if group.tier is Tier.SIMILAR)
