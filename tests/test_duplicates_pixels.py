"""Pictures are told to be one, or not, by their pixels; and pairs are looked at."""

import io
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from scipy.ndimage import map_coordinates

from lookalike import duplicates, encoders, images, sample
from lookalike.collection import Collection, entries
from lookalike.duplicates import Tier, Turn, looking, pixels
from lookalike.duplicates.alike import Alike
from lookalike.encoders import Encoder
from lookalike.images import load


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("originals")
    sample.write(folder, 24, 3)
    return sorted((folder / "photos").rglob("*.jpg"))


def opened(paths: list[Path]) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in paths]


def squares(pictures: list[Image.Image], side: int = pixels.SIDE) -> np.ndarray:
    return np.stack([load(picture, side) for picture in pictures])


def recompressed(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def marked(picture: Image.Image) -> Image.Image:
    picture = picture.copy()
    ImageDraw.Draw(picture).ellipse((185, 10, 248, 60), fill=(220, 20, 40))
    return picture


def warmer(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture) * np.array([1.1, 1.0, 0.85])
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
def test_copies_agree_whichever_comes_first(photos: list[Path], change: str, side: int, count: int) -> None:
    originals = opened(photos[:count])
    copies = squares([COPIES[change](picture) for picture in originals], side)
    assert pixels.agree(squares(originals, side), copies).all()
    assert pixels.agree(copies, squares(originals, side)).all()


@pytest.mark.parametrize(("side", "count"), [(pixels.SIDE, 12), (pixels.FINE, 6)])
def test_different_products_do_not_agree(photos: list[Path], side: int, count: int) -> None:
    pictures = squares(opened(photos[:count]), side)
    left, right = np.array(list(itertools.combinations(range(count), 2))).T
    assert not pixels.agree(pictures[left], pictures[right]).any()


def shirt(colour: tuple[int, int, int], draw: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
    picture = Image.new("RGB", (256, 256), "white")
    pen = ImageDraw.Draw(picture)
    pen.polygon([(30, 70), (90, 30), (166, 30), (226, 70), (200, 110), (180, 95), (180, 230), (76, 230), (76, 95), (56, 110)], colour)  # fmt: skip
    draw(pen)
    return picture


def test_one_cut_with_another_print_or_in_another_colour_is_another_product() -> None:
    red, blue = (190, 30, 40), (30, 60, 180)
    star = shirt(red, lambda pen: pen.regular_polygon((128, 130, 34), 3, fill="white"))
    ring = shirt(red, lambda pen: pen.ellipse((98, 100, 158, 160), outline="white", width=10))
    other = shirt(blue, lambda pen: pen.regular_polygon((128, 130, 34), 3, fill="white"))
    for one, two in itertools.combinations((star, ring, other), 2):
        assert not pixels.agree(squares([one]), squares([two]))[0]
    assert pixels.agree(squares([star]), squares([recompressed(star)]))[0]


def form(seed: int) -> Image.Image:
    """A page of twenty fields; what is written into them differs."""
    words, picture = np.random.default_rng(seed), Image.new("RGB", (620, 877), "white")
    pen = ImageDraw.Draw(picture)
    for top in range(50, 850, 40):
        pen.rectangle((50, top, 570, top + 30), outline="black", width=2)
        pen.text((60, top + 6), f"Field {top}", "black", font_size=14)
        pen.text((300, top + 6), " ".join(words.choice(["some", "words", "which", "a", "b"], 3)), "navy", font_size=14)
    return picture


def test_forms_that_are_filled_in_differently_are_told_apart_by_finer_details() -> None:
    forms = [form(seed) for seed in range(4)]
    left, right = np.array(list(itertools.combinations(range(4), 2))).T
    coarse, fine = (squares(forms, side) for side in (pixels.SIDE, pixels.FINE))
    assert pixels.agree(coarse[left], coarse[right]).all()  # which is why they are compared twice
    assert not pixels.agree(fine[left], fine[right]).any()
    assert pixels.agree(fine, squares([recompressed(picture) for picture in forms], pixels.FINE)).all()


def test_nothing_to_be_seen_is_no_duplicate() -> None:
    plain = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 0, 255, 128)])
    assert not pixels.agree(plain, plain[::-1]).any()
    assert not pixels.agree(plain, plain).any()
    assert pixels.agree(plain[:0], plain[:0]).shape == (0,)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_noise_agrees_with_itself_alone_in_any_batch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = np.stack([load(Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)), 64) for _ in range(3)])
    left, right = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    told = pixels.agree(noise[left], noise[right])
    assert np.array_equal(told, left == right)
    assert [bool(pixels.agree(noise[[a]], noise[[b]])[0]) for a, b in zip(left, right, strict=True)] == told.tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_values_between_pixels_are_those_of_scipy_and_windows_those_of_a_loop(seed: int) -> None:
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


def pairs(*rows: tuple[int, int, float, Turn]) -> Alike:
    left, right, distances, turns = zip(*rows, strict=True)
    return Alike(
        np.array(left), np.array(right), np.array(distances, np.float32), np.array([t.number for t in turns], np.uint8),
        np.zeros(len(rows), bool),
    )  # fmt: skip


def test_pairs_are_looked_at_turned_and_what_cannot_be_read_is_told(photos: list[Path], tmp_path: Path) -> None:
    copy, turned, broken = tmp_path / "copy.jpg", tmp_path / "turned.png", tmp_path / "broken.jpg"
    with Image.open(photos[0]) as picture:
        picture.resize((100, 100)).save(copy)
        picture.transpose(Image.Transpose.ROTATE_270).save(turned)
    broken.write_bytes(photos[0].read_bytes()[:300])
    files = [photos[0], copy, turned, broken, photos[1], None]
    found = pairs(
        (0, 1, 0.1, Turn.NONE), (0, 2, 0.1, Turn.RIGHT), (0, 3, 0.0, Turn.NONE), (0, 4, 0.1, Turn.NONE),
        (0, 5, 0.1, Turn.NONE), (1, 2, 0.1, Turn.LEFT), (1, 3, 0.1, Turn.NONE),
    )  # fmt: skip
    failures: list[tuple[Path, str]] = []
    told: list[tuple[int, int]] = []
    looked = looking.look(
        found, files, files, failed=lambda *one: failures.append(one), tell=lambda *one: told.append(one)
    )
    assert looked.agree.tolist() == [True, True, False, False, False, False, False]
    assert [path for path, _ in failures] == [broken]
    assert told[-1] == (6, 6)
    # Of two collections, places are of different files.
    across = looking.look(
        pairs((0, 0, 0.1, Turn.NONE), (1, 1, 0.1, Turn.NONE)), [photos[0], photos[2]], [copy, photos[3]]
    )
    assert across.agree.tolist() == [True, False]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif", ".avif"])
def test_frames_and_pages_that_nobody_compares_are_no_duplicates(
    photos: list[Path], tmp_path: Path, suffix: str
) -> None:
    first, *rest = (picture.resize((160, 160)) for picture in opened(photos[:3]))
    files: list[Path | None] = [tmp_path / f"{name}{suffix}" for name in ("one", "other", "still", "again")]
    for path, more in zip(files, (rest[:1], rest[1:], [], []), strict=True):
        assert path
        first.save(path, save_all=True, append_images=more)
        assert images.is_animated(path) == bool(more)
    looked = looking.look(pairs((0, 1, 0.0, Turn.NONE), (0, 2, 0.0, Turn.NONE), (2, 3, 0.0, Turn.NONE)), files, files)
    assert looked.agree.tolist() == [False, False, True]


def test_what_hides_behind_a_jpeg_is_no_frame(photos: list[Path], tmp_path: Path) -> None:
    first, preview = opened(photos[:2])
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[preview])
    assert not images.is_animated(tmp_path / "phone.jpg")


def test_of_too_many_pairs_the_nearest_are_looked_at_and_that_is_told(
    photos: list[Path], pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "MOST", 1)
    files: list[Path | None] = [photos[0], photos[0], photos[1], photos[1]]
    looked = looking.look(pairs((0, 1, 0.2, Turn.NONE), (2, 3, 0.1, Turn.NONE)), files, files)
    assert looked.agree.tolist() == [False, True]
    assert looking.told(duplicates.given(0.2), 1) == duplicates.given(0.2)
    with Collection.create(tmp_path / "c.lookalike", Encoder.open(pocket)) as collection:
        collection.add(entries(photos[0].parents[1]))
        found = duplicates.find(collection, duplicates.given(99))
    assert (
        found.reach.how
        == f"as given; of its {24 * 23 // 2} pairs only the nearest 1, and the others are called similar"
    )


def test_a_shop_of_few_kinds_is_offered_its_copies_alone(photos: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    for i, path in enumerate(photos[:14]):
        shutil.copy(path, folder / f"{i:02}.jpg")
        if i < 4:
            with Image.open(path) as picture:
                picture.resize((128, 128)).save(folder / f"{i:02}-copy.jpg", quality=60)
    encoder = encoders.load("copies")
    with Collection.create(tmp_path / "c.lookalike", encoder) as collection:
        collection.add(entries(folder))
        # A distance at which many different products lie, as in a shop of one kind of thing.
        found = duplicates.find(collection, duplicates.given(1.2))
    near = [{m.path.name[:2] for m in group.members} for group in found.groups if group.tier is Tier.NEAR]
    assert sorted(map(list, near)) == [[f"{i:02}"] for i in range(4)]
    assert sum(pair.tier is Tier.SIMILAR for pair in found.pairs) > 30
    assert all(not group.surplus for group in found.groups if group.tier is Tier.SIMILAR)
