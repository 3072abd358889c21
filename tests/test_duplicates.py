"""Duplicates: groups, search radius, the image to keep, decisions, orientations and leaks."""

import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

import pocket_encoder
from lookalike import duplicates, images, sample
from lookalike.collection import Collection
from lookalike.duplicates import (
    DuplicateGroups,
    FileFacts,
    FindOptions,
    KeepRule,
    Orientation,
    SearchRadius,
    Tier,
    candidates,
    decisions,
    groups,
    keep,
)
from lookalike.duplicates.orientation import INVERSES, ORIENTATIONS, orient
from lookalike.duplicates.source import Contents
from lookalike.embedding import Embedder
from lookalike.encoders import Encoder
from lookalike.encoders.card import Calibration
from lookalike.errors import (
    MismatchError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    UnreadableImageError,
    UsageError,
)
from lookalike.metric import Metric
from lookalike.query import Branch

NEAR = SearchRadius.fixed(0.03)

TRANSPOSES = {
    Orientation.MIRRORED: Image.Transpose.FLIP_LEFT_RIGHT,
    Orientation.HALF_TURN: Image.Transpose.ROTATE_180,
    Orientation.FLIPPED: Image.Transpose.FLIP_TOP_BOTTOM,
    Orientation.TRANSPOSED: Image.Transpose.TRANSPOSE,
    Orientation.RIGHT: Image.Transpose.ROTATE_270,
    Orientation.TRANSVERSE: Image.Transpose.TRANSVERSE,
    Orientation.LEFT: Image.Transpose.ROTATE_90,
}


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("originals")
    sample.write(folder, 12, 0)
    return sorted((folder / "photos").rglob("*.jpg"))


@pytest.fixture
def photos(originals: list[Path], tmp_path: Path) -> list[Path]:
    """Twelve photos of the toy shop, all a day old."""
    folder = tmp_path / "photos"
    folder.mkdir()
    out = []
    for i, path in enumerate(originals):
        out.append(folder / f"{i:02}.jpg")
        shutil.copy(path, out[-1])
        os.utime(out[-1], (1e9, 1e9))
    return out


Index = Callable[..., Collection]


@pytest.fixture
def index(pocket: Path, tmp_path: Path) -> Index:
    def made(folder: Path, name: str = "c") -> Collection:
        path = tmp_path / f"{name}.lookalike"
        collection = Collection.open(path) if path.exists() else Collection.create(path, Encoder.open(pocket))
        collection.add(folder)
        return collection

    return made


def names(found: DuplicateGroups) -> list[tuple[str, list[str]]]:
    return [(group.tier, [member.path.name for member in group.members]) for group in found]


# ---- groups


Points = st.lists(st.integers(0, 12), min_size=0, max_size=14)


def pairs_within(distances: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left, right = np.nonzero(np.triu(distances <= radius, 1))
    return left, right, distances[left, right].astype(np.float32)


@settings(max_examples=60)
@given(Points, st.integers(0, 6), st.randoms(use_true_random=False))
def test_cliques_are_complete_and_maximal_in_any_order_of_pairs(points: list[int], radius: int, random: object) -> None:
    distances = np.abs(np.subtract.outer(points, points)).astype(float).reshape(len(points), len(points))
    left, right, far = pairs_within(distances, radius)
    cliques = groups.cliques(left, right, far)
    inside = [place for group in cliques for place in group]
    assert len(inside) == len(set(inside))
    assert all(distances[a, b] <= radius for group in cliques for a, b in itertools.combinations(group, 2))
    whole = [*cliques, *((i,) for i in range(len(points)) if i not in inside)]
    for one, other in itertools.combinations(whole, 2):  # no two can be merged
        assert max(distances[a, b] for a in one for b in other) > radius
    shuffled = np.random.default_rng(0).permutation(len(left))
    assert groups.cliques(right[shuffled], left[shuffled], far[shuffled]) == cliques


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 16), st.floats(0.2, 1.2))
def test_cliques_equal_complete_linkage_of_scipy(seed: int, count: int, radius: float) -> None:
    points = np.random.default_rng(seed).random((count, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    labels = fcluster(linkage(squareform(distances, checks=False), "complete"), radius, "distance")
    expected = sorted(
        tuple(np.flatnonzero(labels == label).tolist()) for label in set(labels) if (labels == label).sum() > 1
    )
    assert groups.cliques(*pairs_within(distances, radius)) == expected


@settings(max_examples=30)
@given(Points, st.integers(0, 4))
def test_chains_equal_single_linkage_of_scipy(points: list[int], radius: int) -> None:
    distances = np.abs(np.subtract.outer(points, points)).astype(float).reshape(len(points), len(points))
    chains = groups.chains(*pairs_within(distances, radius))
    if len(points) < 2:
        assert chains == []
        return
    labels = fcluster(linkage(squareform(distances), "single"), radius, "distance")
    assert chains == sorted(
        tuple(np.flatnonzero(labels == label).tolist()) for label in set(labels) if (labels == label).sum() > 1
    )


def test_a_chain_never_links_distinct_members() -> None:
    line = np.arange(5)
    left, right, far = line[:-1], line[1:], np.array([1, 2, 1, 1], np.float32)
    assert groups.chains(left, right, far) == [(0, 1, 2, 3, 4)]
    # The longest link between two distinct members is left out.
    assert groups.chains(left, right, far, [(0, 4)]) == [(0, 1), (2, 3, 4)]
    assert groups.chains(left, right, far, [(4, 0), (2, 3)]) == [(0, 1, 2), (3, 4)]


def test_without_pairs_there_are_no_groups() -> None:
    nothing = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    assert groups.cliques(*nothing) == []
    assert groups.chains(*nothing) == []


# ---- search radius


def embedder(pocket: Path, tmp_path: Path, calibration: Calibration | None) -> Embedder:
    shutil.copytree(pocket, tmp_path / "encoder")
    return Embedder.of(Encoder.open(pocket_encoder.calibrated(tmp_path / "encoder", calibration)))


COPIES = Calibration(
    distance_at_false_accept_rate={"0.01": 0.5},
    knots=((0.1, 0.9999), (0.2, 0.99), (0.4, 0.5), (1.0, 0.0)),
    genuine=9998,
    impostors=9998,
)


def test_the_radius_follows_from_the_calibration_and_the_number_of_images(pocket: Path, tmp_path: Path) -> None:
    made = embedder(pocket, tmp_path, COPIES)
    few, more, many = (SearchRadius.from_calibration(made, n) for n in (3, 1_101, 1_000_000))
    assert COPIES.probability(np.array(few.distance)) == pytest.approx(1000 / 1001)
    assert COPIES.probability(np.array(more.distance)) == pytest.approx(1100 / 1101)
    # In all orientations, a pair has eight chances to be near by accident.
    turned = SearchRadius.from_calibration(made, 3, all_orientations=True)
    assert COPIES.probability(np.array(turned.distance)) == pytest.approx(8000 / 8001)
    # The calibration does not know such odds, so the radius is its smallest distance.
    assert many.distance == pytest.approx(0.1)
    assert "too few pairs" in many.explanation
    assert "too few pairs" not in more.explanation


def test_a_calibration_with_probability_one_has_a_radius(pocket: Path, tmp_path: Path) -> None:
    radius = SearchRadius.from_calibration(embedder(pocket, tmp_path, pocket_encoder.KNOWN), 10)
    assert radius.distance == pytest.approx(0.5 * (1 - 1000 / 1001) / 0.5)
    flat = Calibration(distance_at_false_accept_rate={}, knots=((0.3, 1.0),), genuine=5, impostors=5)
    shutil.rmtree(tmp_path / "encoder")
    assert SearchRadius.from_calibration(embedder(pocket, tmp_path, flat), 10).distance == 0.3


def test_an_encoder_calibrated_on_classes_is_refused(pocket: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not calibrated for the euclidean.*--within"):
        SearchRadius.from_calibration(Embedder.of(Encoder.open(pocket)), 10)
    made = embedder(pocket, tmp_path, COPIES)
    with pytest.raises(UsageError, match="not calibrated for the cosine"):
        SearchRadius.from_calibration(made.with_metric(Metric.COSINE), 10)
    shutil.rmtree(tmp_path / "encoder")
    classes = Calibration(distance_at_false_accept_rate={}, knots=((0.1, 0.95), (1.0, 0.1)), genuine=100, impostors=100)
    with pytest.raises(UsageError, match=r"only 19 times .* 10,000 images need 9,999.*--within"):
        SearchRadius.from_calibration(embedder(pocket, tmp_path, classes), 10_000)


def test_a_radius_can_be_given(pocket: Path, tmp_path: Path) -> None:
    assert SearchRadius.fixed(0.5) == SearchRadius(0.5, "as given")
    assert SearchRadius.at_false_accept_rate(embedder(pocket, tmp_path, COPIES), 0.01).distance == 0.5
    for wrong in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="at least 0"):
            SearchRadius.fixed(wrong)


# ---- the image to keep


def facts(width: int = 10, size: int = 100, modified: int = 0) -> FileFacts:
    return FileFacts(width, 10, size, modified * 10**9, (0, 0))


def test_rules_apply_in_order_and_give_reasons() -> None:
    files = [
        (Path("/b/1.jpg"), facts(width=20, size=100)),
        (Path("/a/2.jpg"), facts(width=20, size=300, modified=9)),
        (Path("/a/3.jpg"), facts(width=10, size=900)),
        (Path("/a/originals/x/4.jpg"), facts(width=20, size=300, modified=5)),
    ]
    assert keep.choose(files, KeepRule.parse("resolution,size,oldest")) == (
        3,
        "highest resolution, 20 × 10; largest file, 300 bytes; oldest, of 1970-01-01",
    )
    assert keep.choose(files, KeepRule.parse("size")) == (2, "largest file, 900 bytes")
    assert keep.choose(files, KeepRule.parse(" newest , size")) == (1, "newest, of 1970-01-01")
    assert keep.choose(files, KeepRule.parse("path:originals/*,size")) == (3, "path matches originals/*")
    assert keep.choose(files, KeepRule.parse("path:/b/*"))[0] == 0
    assert keep.choose(files, KeepRule.parse("resolution")) == (1, "highest resolution, 20 × 10; first path")
    assert keep.choose(files[:1], KeepRule.parse("resolution")) == (0, "")


@pytest.mark.parametrize("text", ["", "best", "resolution,", "path", "path:", "size:3", "RESOLUTION"])
def test_an_unknown_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a rule"):
        KeepRule.parse(text)


def test_copies_are_found_and_the_best_one_is_kept(photos: list[Path], index: Index) -> None:
    folder = photos[0].parent
    shutil.copy(photos[0], folder / "zz-same.jpg")
    with Image.open(photos[1]) as image:
        image.save(folder / "recompressed.jpg", quality=40)
        image.resize((128, 128)).save(folder / "small.png")
        image.crop((4, 4, 252, 252)).save(folder / "cropped.jpg")
    with index(folder) as collection:
        found = duplicates.find_duplicates(collection, NEAR)
        assert names(found) == [
            ("identical", ["00.jpg", "zz-same.jpg"]),
            ("near-duplicate", ["01.jpg", *(m.path.name for m in found.groups[1].members[1:])]),
        ]
        assert {m.path.name for m in found.groups[1].members[1:]} == {"recompressed.jpg", "small.png", "cropped.jpg"}
        kept, *others = found.groups[1].members
        assert (kept.kept, kept.distance, kept.reason) == (
            True,
            0,
            f"highest resolution, 256 × 256; largest file, {kept.facts.size:,} bytes",
        )
        assert found.groups[1].surplus == tuple(others)
        assert [m.distance for m in others] == sorted(m.distance for m in others)
        assert all(
            0 < m.distance <= 0.03 and m.tier is Tier.NEAR_DUPLICATE and not m.kept and not m.reason for m in others
        )
        assert found.groups[0].members[0].reason == "oldest, of 2001-09-09"
        # One pair of the same bytes, and every two of the four that are within the radius.
        assert found.pairs[0].tier is Tier.IDENTICAL
        assert len(found.pairs) == 1 + 6
        assert (found.image_count, found.skipped) == (16, ())
        small = duplicates.find_duplicates(collection, NEAR, options=FindOptions(rules=KeepRule.parse("path:*.png")))
        assert [m.path.name for m in small.groups[1].members if m.kept] == ["small.png"]


def test_similar_images_are_grouped_among_kept_ones_and_are_never_surplus(photos: list[Path], index: Index) -> None:
    folder = photos[0].parent
    with Image.open(photos[1]) as image:
        image.save(folder / "recompressed.jpg", quality=40)
        image.crop((100, 100, 256, 256)).save(folder / "part.jpg")
    with index(folder) as collection:
        contents = Contents.of(collection)
        at = {items[0].uri.rsplit("/")[-1]: i for i, items in enumerate(contents.items)}
        far = float(np.linalg.norm(contents.vectors[at["01.jpg"]] - contents.vectors[at["part.jpg"]]))
        found = duplicates.find_duplicates(collection, SearchRadius.fixed(far + 0.001))
        near = [group for group in found.groups if group.tier is Tier.NEAR_DUPLICATE]
        assert names(found)[0] == ("near-duplicate", ["01.jpg", "recompressed.jpg"])
        assert len(near) == 1
        similar = [group for group in found.groups if group.tier is Tier.SIMILAR]
        (parted,) = [pair for pair in found.pairs if {pair.left.name, pair.right.name} == {"01.jpg", "part.jpg"}]
        assert parted.tier is Tier.SIMILAR
        assert similar
        assert all(group.surplus == () for group in similar)
        assert "recompressed.jpg" not in {m.path.name for group in similar for m in group.members}
        tiers = [pair.tier for pair in found.pairs]
        assert tiers == sorted(tiers, key=list(Tier).index)


def test_all_images_of_reference_folders_are_kept(photos: list[Path], index: Index) -> None:
    folder = photos[0].parent
    masters = folder / "masters"
    masters.mkdir()
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(photos[0], masters / name)
    with Image.open(photos[1]) as image:
        image.resize((64, 64)).save(masters / "small.jpg")
    with index(folder) as collection:
        found = duplicates.find_duplicates(collection, NEAR, options=FindOptions(references=(masters,)))
        kept = {m.path.name: m.reason for g in found.groups for m in g.members if m.kept}
        assert kept == dict.fromkeys(("a.jpg", "b.jpg", "small.jpg"), "in a reference folder")
        assert [m.path.name for g in found.groups for m in g.surplus] == ["00.jpg", "01.jpg"]
        with pytest.raises(UsageError, match=r"reference folder .*elsewhere"):
            duplicates.find_duplicates(collection, NEAR, options=FindOptions(references=(folder / "elsewhere",)))


def test_files_that_cannot_be_kept_or_moved_are_skipped(photos: list[Path], index: Index) -> None:
    folder = photos[0].parent
    for i in range(5):
        shutil.copy(photos[i], folder / f"copy-{i}.jpg")
    (folder / "link-4.jpg").symlink_to(photos[4])
    os.link(photos[5], folder / "hard-5.jpg")
    with index(folder) as collection:
        photos[0].unlink()
        photos[1].write_bytes(photos[2].read_bytes())
        photos[2].write_bytes(b"")
        os.utime(folder / "copy-3.jpg", (5, 5))  # other times, the same content
        found = duplicates.find_duplicates(collection, NEAR)
        reasons = {path.name: reason for path, reason in found.skipped}
        assert set(reasons) == {"00.jpg", "01.jpg", "02.jpg", "link-4.jpg", "hard-5.jpg"}
        assert "is missing" in reasons["00.jpg"]
        assert "has changed" in reasons["01.jpg"]
        assert "is empty" in reasons["02.jpg"]
        assert "is a link to" in reasons["link-4.jpg"]
        assert "is the same file as" in reasons["hard-5.jpg"]
        assert names(found) == [("identical", ["04.jpg", "copy-4.jpg"]), ("identical", ["copy-3.jpg", "03.jpg"])]


def test_an_empty_collection_and_a_single_image_have_no_duplicates(
    photos: list[Path], index: Index, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    with index(tmp_path / "one") as collection:
        for turned in (False, True):
            found = duplicates.find_duplicates(collection, NEAR, options=FindOptions(all_orientations=turned))
            assert (found.groups, found.pairs, found.image_count) == ((), (), 0)
        shutil.copy(photos[0], tmp_path / "one")
        collection.add(tmp_path / "one")
        assert duplicates.find_duplicates(collection, SearchRadius.fixed(float("inf"))).groups == ()


def test_a_radius_with_too_many_pairs_is_refused(
    photos: list[Path], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "MAX_PAIRS", 10)
    with index(photos[0].parent) as collection, pytest.raises(UsageError, match=r"10 pairs.*--within"):
        duplicates.find_duplicates(collection, SearchRadius.fixed(2))


def test_a_thousand_copies_are_one_content(photos: list[Path], index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos[0].parent
    for i in range(60):
        shutil.copy(photos[0], folder / f"copy-{i:02}.jpg")
    monkeypatch.setattr(candidates, "MAX_PAIRS", 60)  # there would be 60 · 61 / 2
    with index(folder) as collection:
        found = duplicates.find_duplicates(collection, NEAR)
    (group,) = found
    assert (len(group.members), len(group.surplus), len(found.pairs)) == (61, 60, 60)
    assert len(str(found).splitlines()) == 1 + 12 + 2
    assert "49 more members" in str(found)
    assert found._repr_html_().count("<img") == 12


def test_a_chain_is_one_group_and_cliques_are_not(photos: list[Path], index: Index) -> None:
    with index(photos[0].parent) as collection:
        contents = Contents.of(collection)
        distances = np.linalg.norm(contents.vectors[:, None] - contents.vectors[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        radius = SearchRadius.fixed(float(distances.min(axis=1).max()))  # each has a neighbour
        cliques = duplicates.find_duplicates(collection, radius)
        chains = duplicates.find_duplicates(collection, radius, FindOptions(chains=True))
        assert all(m.distance <= radius.distance for g in cliques.groups for m in g.members)
        assert sum(len(g.members) for g in chains.groups) == 12
        assert len(chains.groups) < len(cliques.groups) + 12 - sum(len(g.members) for g in cliques.groups)
        farthest = max(m.distance for g in chains.groups for m in g.members)
        assert farthest > radius.distance  # measured, since it is not a pair


# ---- forms of the result


def test_the_groups_are_a_sequence_that_prints_and_shows_images(photos: list[Path], index: Index) -> None:
    folder = photos[0].parent
    shutil.copy(photos[0], folder / "<b>copy\x1b.jpg")
    with index(folder) as collection:
        found = duplicates.find_duplicates(collection, NEAR)
    assert len(found) == 1
    assert list(found) == list(found.groups) == [found[0]]
    assert len(found.surplus) == 1
    assert "1 group of duplicates among 13 images; 1 could go" in repr(found)
    assert "00.jpg" in str(found)
    assert "\x1b" not in str(found)
    page = found._repr_html_()
    assert page.count('<img src="data:image/jpeg;base64,') == 2
    assert "&lt;b&gt;copy" in page
    assert "<b>copy" not in page
    assert "\x1b" not in page


def test_the_pairs_become_a_table(photos: list[Path], index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(photos[0], photos[0].with_name("copy.jpg"))
    with index(photos[0].parent) as collection:
        found = duplicates.find_duplicates(collection, NEAR)
    rows = [
        {"left": str(photos[0]), "right": str(photos[0].with_name("copy.jpg")), "distance": 0.0, "tier": "identical",
         "orientation": "same"}
    ]  # fmt: skip
    assert found.to_arrow().to_pylist() == rows
    table = SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns))
    monkeypatch.setitem(sys.modules, "pandas", table)
    assert found.to_pandas() == (rows, list(rows[0]))
    for name, convert in (("pandas", found.to_pandas), ("pyarrow", found.to_arrow)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError):
            convert()


# ---- decisions


def test_distinct_images_never_come_into_one_group_again(photos: list[Path], index: Index, tmp_path: Path) -> None:
    folder = photos[0].parent
    with Image.open(photos[1]) as image:
        image.save(folder / "recompressed.jpg", quality=60)
        image.resize((128, 128)).save(folder / "small.png")
    with index(folder) as collection:
        by = {Path(item.uri).name: item for item in collection.store.scan()}
        assert decisions.read(collection) == frozenset()
        assert decisions.mark_distinct(collection, [by["01.jpg"], by["recompressed.jpg"]]) == 1
        assert decisions.mark_distinct(collection, [by["recompressed.jpg"], by["01.jpg"]]) == 0
        found = duplicates.find_duplicates(collection, NEAR)
        (group,) = found.groups
        assert "small.png" in {m.path.name for m in group.members}
        assert len(group.members) == 2
        assert {(p.left.name, p.right.name) for p in found.pairs}.isdisjoint({("01.jpg", "recompressed.jpg")})
        (chain,) = duplicates.find_duplicates(collection, NEAR, FindOptions(chains=True)).groups
        assert len(chain.members) == 2  # not even through the third
    # The files move, and another collection indexes them again.
    folder.rename(tmp_path / "moved")
    shutil.copy(tmp_path / "c.lookalike" / "decisions.json", tmp_path)
    with index(tmp_path / "moved", "again") as again:
        shutil.move(tmp_path / "decisions.json", again.path)
        (group,) = duplicates.find_duplicates(again, NEAR).groups
        assert len(group.members) == 2
        assert decisions.forget(again, [by["01.jpg"].sha256]) == 1
        assert decisions.forget(again, [by["01.jpg"].sha256]) == 0
        (group,) = duplicates.find_duplicates(again, NEAR).groups
        assert len(group.members) == 3


def test_decisions_between_several_are_all_their_pairs(photos: list[Path], index: Index) -> None:
    with index(photos[0].parent) as collection:
        items = sorted(collection.store.scan(), key=lambda item: item.uri)
        assert decisions.mark_distinct(collection, items[:4]) == 6
        assert decisions.forget(collection, [item.sha256 for item in items[:2]]) == 1
        assert decisions.forget(collection, [items[0].sha256]) == 2
        assert len(decisions.read(collection)) == 3
        assert decisions.forget(collection, []) == 0


def test_decisions_about_one_content_are_refused(photos: list[Path], index: Index) -> None:
    shutil.copy(photos[0], photos[0].with_name("copy.jpg"))
    with index(photos[0].parent) as collection:
        by = {Path(item.uri).name: item for item in collection.store.scan()}
        with pytest.raises(UsageError, match="at least two"):
            decisions.mark_distinct(collection, [by["00.jpg"], by["00.jpg"]])
        with pytest.raises(UsageError, match=r"are the same bytes.*--reference"):
            decisions.mark_distinct(collection, [by["00.jpg"], by["01.jpg"], by["copy.jpg"]])
        assert decisions.read(collection) == frozenset()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{", StorageError),
        ("[]", StorageError),
        ('{"distinct": [["b", "a"]]}', StorageError),
        ('{"distinct": [["a"]]}', StorageError),
        ('{"format": 2}', MismatchError),
    ],
)
def test_damaged_decisions_are_refused_and_not_overwritten(
    content: str, error: type[Exception], photos: list[Path], index: Index
) -> None:
    with index(photos[0].parent) as collection:
        path = collection.path / "decisions.json"
        path.write_text(content, encoding="utf-8")
        items = list(collection.store.scan())
        for work in (
            lambda: duplicates.find_duplicates(collection, NEAR),
            lambda: decisions.mark_distinct(collection, items[:2]),
            lambda: decisions.forget(collection, ["a"]),
        ):
            with pytest.raises(error, match=r"decisions\.json"):
                work()
        assert path.read_text(encoding="utf-8") == content


# ---- orientations


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_orientations_equal_pillow_and_have_inverses(seed: int) -> None:
    batch = np.random.default_rng(seed).integers(0, 256, (2, 5, 5, 3), np.uint8)
    for orientation in ORIENTATIONS:
        turned = orient(batch, orientation)
        if orientation is not Orientation.SAME:
            for one, other in zip(batch, turned, strict=True):
                assert np.array_equal(np.asarray(Image.fromarray(one).transpose(TRANSPOSES[orientation])), other)
        assert np.array_equal(orient(turned, orientation.inverse), batch)
        assert INVERSES[orientation.number] == orientation.inverse.number


@pytest.mark.parametrize("orientation", TRANSPOSES)
def test_a_copy_in_another_orientation_is_found(orientation: Orientation, photos: list[Path], index: Index) -> None:
    folder = photos[0].parent
    for number, name in ((3, "a-small.png"), (4, "z-small.png")):  # one on either side of its original
        with Image.open(photos[number]) as image:
            image.transpose(TRANSPOSES[orientation]).resize((128, 128)).save(folder / name)
    with index(folder) as collection:
        found = duplicates.find_duplicates(collection, NEAR, FindOptions(all_orientations=True))
        assert duplicates.find_duplicates(collection, NEAR).groups == ()
        assert sorted(names(found)) == [
            ("near-duplicate", ["03.jpg", "a-small.png"]),
            ("near-duplicate", ["04.jpg", "z-small.png"]),
        ]
        farthest = [max(member.distance for member in group.members) for group in found.groups]
        assert farthest == sorted(farthest)
        assert {member.orientation for group in found.groups for member in group.surplus} == {orientation}
        for pair in found.pairs:
            assert pair.orientation == (orientation if pair.right.suffix == ".png" else orientation.inverse)


def test_embeddings_are_cached_by_content_and_a_damaged_cache_is_empty(
    photos: list[Path], index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos[0].parent
    with Image.open(photos[1]) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=90)
    with index(folder) as collection:
        first = duplicates.find_duplicates(collection, NEAR, FindOptions(all_orientations=True))
        assert len(first.groups) == 1
        calls: list[int] = []
        embed = Encoder.embed

        def counting(self: Encoder, batch: np.ndarray, branch: Branch = "photo") -> np.ndarray:
            calls.append(len(batch))
            return embed(self, batch, branch)

        monkeypatch.setattr(Encoder, "embed", counting)
        assert duplicates.find_duplicates(collection, NEAR, FindOptions(all_orientations=True)) == first
        assert not calls
        cache = collection.path / "cache" / "turned.sqlite"
        cache.write_bytes(b"not a database" * 100)
        assert duplicates.find_duplicates(collection, NEAR, FindOptions(all_orientations=True)) == first
        assert sum(calls) == 7 * 13
        cache.unlink()
        photos[0].unlink()
        gone = duplicates.find_duplicates(collection, NEAR, FindOptions(all_orientations=True))
        assert [path.name for path, _ in gone.skipped] == ["00.jpg"]
        assert names(gone) == names(first)


# ---- leaks


def test_leaks_between_two_collections(photos: list[Path], index: Index, tmp_path: Path) -> None:
    test = tmp_path / "test"
    test.mkdir()
    shutil.copy(photos[0], test / "same.jpg")
    shutil.copy(photos[0], test / "same-again.jpg")
    with Image.open(photos[1]) as image:
        image.save(test / "recompressed.jpg", quality=50)
    with Image.open(photos[2]) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(test / "mirrored.jpg", quality=90)
    with index(photos[0].parent) as train, index(test, "test") as other:
        found = duplicates.find_leaks(train, other, NEAR)
        assert [(p.left.name, p.right.name, p.tier.value) for p in found.pairs] == [
            ("00.jpg", "same-again.jpg", "identical"),
            ("00.jpg", "same.jpg", "identical"),
            ("01.jpg", "recompressed.jpg", "near-duplicate"),
        ]
        assert found.leaked == {Tier.IDENTICAL: 2, Tier.NEAR_DUPLICATE: 1, Tier.SIMILAR: 0}
        assert (found.train_count, found.test_count) == (12, 4)
        turned = duplicates.find_leaks(train, other, NEAR, all_orientations=True)
        assert [
            (p.left.name, p.right.name, p.orientation) for p in turned.pairs if p.orientation is not Orientation.SAME
        ] == [("02.jpg", "mirrored.jpg", Orientation.MIRRORED)]


def test_leaks_need_one_encoder(photos: list[Path], index: Index, tmp_path: Path) -> None:
    larger = Encoder.open(pocket_encoder.make(tmp_path / "larger", size=64))
    with (
        index(photos[0].parent) as train,
        Collection.create(tmp_path / "other.lookalike", larger) as other,
        pytest.raises(MismatchError, match="different encoders"),
    ):
        duplicates.find_leaks(train, other, NEAR)


def test_pairs_equal_the_definition(photos: list[Path], index: Index) -> None:
    with index(photos[0].parent) as collection:
        contents = Contents.of(collection)
        assert list(contents.digests) == sorted(contents.digests)
        distances = np.linalg.norm(contents.vectors[:, None].astype(float) - contents.vectors[None], axis=2)
        radius = float(np.float32(np.median(distances)))
        found, _ = candidates.find_pairs(contents, radius)
        expected = [(a, b) for a, b in itertools.combinations(range(12), 2) if np.float32(distances[a, b]) <= radius]
        assert list(zip(found.left.tolist(), found.right.tolist(), strict=True)) == expected
        for a, b in itertools.permutations(range(12), 2):
            pair = found.between(a, b)
            assert (pair is not None) == ((min(a, b), max(a, b)) in expected)
            if pair is not None:
                assert pair[0] == pytest.approx(distances[a, b], rel=1e-6)
                assert pair[1] is Orientation.SAME
        assert found.between(0, 0) is None


def test_groups_do_not_depend_on_where_files_are(photos: list[Path], index: Index, tmp_path: Path) -> None:
    with index(photos[0].parent) as collection:
        radius = SearchRadius.fixed(0.2)
        first = duplicates.find_duplicates(collection, radius)
    shutil.copytree(photos[0].parent, tmp_path / "elsewhere" / "deep")
    with index(tmp_path / "elsewhere", "other") as collection:
        second = duplicates.find_duplicates(collection, radius)
    assert names(first) == names(second)
    assert first.groups
    assert json.dumps([p.distance for p in first.pairs]) == json.dumps([p.distance for p in second.pairs])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".gif", ".bmp"])
def test_dimensions_are_those_of_the_upright_image(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    Image.effect_noise((40, 30), 50).convert("RGB").save(path)
    assert images.dimensions(path) == (40, 30) == images.open_image(path).size
    if suffix in (".jpg", ".png", ".webp", ".tif"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.effect_noise((40, 30), 50).convert("RGB").save(path, exif=exif)
        assert images.dimensions(path) == (30, 40) == images.open_image(path).size


def test_dimensions_of_files_that_are_not_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no file"):
        images.dimensions(tmp_path / "none.jpg")
    for content in (b"", b"text", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n123"):
        (tmp_path / "bad.jpg").write_bytes(content)
        with pytest.raises(UnreadableImageError, match=r"bad\.jpg"):
            images.dimensions(tmp_path / "bad.jpg")
    with pytest.raises(UnreadableImageError, match="a folder or a device"):
        images.dimensions(tmp_path)
