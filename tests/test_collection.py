"""Collections: pictures, an encoder and a store in one folder."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import pictures
from lookalike import images, search
from lookalike.collection import Collection, Entry, Join, entries
from lookalike.encoders import Encoder
from lookalike.errors import (
    AlreadyExistsError,
    EncoderError,
    LookalikeError,
    MismatchError,
    NotFoundError,
    StorageError,
    UnreadableImageError,
    UsageError,
)
from lookalike.metric import Metric
from lookalike.query import DistanceRange, Filter


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    pictures.write(
        tmp_path / "photos", {f"{label}/{i}.png": 10 * i + len(label) for label in ("cat", "horse") for i in range(5)}
    )
    return tmp_path / "photos"


@pytest.fixture
def shop(tmp_path: Path, photos: Path, pocket: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(pocket)) as shop:
        found = entries(photos, "folder")
        shop.add([Entry(e.path, e.label, {"number": e.path.stem}, f"{e.label}-{e.path.stem}") for e in found])
        yield shop


def ids(collection: Collection) -> list[str]:
    return [item.id for item in collection.store.scan()]


# ---- the folder


def test_the_folder_is_whole_by_itself(tmp_path: Path, pocket: Path, photos: Path) -> None:
    encoder = shutil.copytree(pocket, tmp_path / "encoder")
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(encoder)) as shop:
        shop.add(entries(photos))
        expected = shop.knn(shop.embed([photos / "cat" / "1.png"]), 3)
    shutil.rmtree(encoder)
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(tmp_path / "shop.lookalike", moved)
    shutil.rmtree(tmp_path / "shop.lookalike")
    with Collection.open(moved) as shop:
        assert shop.knn(shop.embed([photos / "cat" / "1.png"]), 3) == expected
        assert shop.embed([photos / "cat" / "1.png"], "sketch").shape == (1, 48)
        assert shop.name == "renamed"


def test_nothing_is_overwritten(shop: Collection) -> None:
    with pytest.raises(AlreadyExistsError):
        Collection.create(shop.path, shop.encoder)
    assert len(ids(shop)) == 10


def test_a_metric_that_does_not_fit_the_encoder_is_refused(tmp_path: Path, pocket: Path) -> None:
    with pytest.raises(UsageError, match="hamming"):
        Collection.create(tmp_path / "x.lookalike", Encoder.open(pocket), Metric.HAMMING)
    assert list(tmp_path.iterdir()) == []
    with Collection.create(tmp_path / "x.lookalike", Encoder.open(pocket), Metric.COSINE) as shop:
        assert shop.store.metric == Metric.COSINE


def swap(path: Path) -> None:
    card = json.loads((path / "encoder" / "encoder.json").read_text(encoding="utf-8"))
    card["input"]["mean"] = [0.5, 0.5, 0.5]
    (path / "encoder" / "encoder.json").write_text(json.dumps(card), encoding="utf-8")


def retrain(path: Path) -> None:
    network = path / "encoder" / "photo.onnx"
    network.write_bytes(network.read_bytes() + b"\0")


def change(**what: object) -> object:
    def damage(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        (path / "manifest.json").write_text(json.dumps(manifest | what), encoding="utf-8")

    return damage


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (swap, MismatchError),
        (retrain, MismatchError),
        (change(dimension=64), MismatchError),
        (change(metric="hamming", dimension=8 * 4 * 48), MismatchError),
        (change(version=99), MismatchError),
        (lambda path: shutil.rmtree(path / "encoder"), StorageError),
        (lambda path: (path / "encoder" / "photo.onnx").unlink(), EncoderError),
        (lambda path: (path / "encoder" / "encoder.json").write_text("{"), EncoderError),
        (lambda path: (path / "catalog.sqlite").unlink(), StorageError),
        (lambda path: (path / "manifest.json").write_text("{"), StorageError),
        (lambda path: (path / "manifest.json").unlink(), NotFoundError),
        (shutil.rmtree, NotFoundError),
    ],
)
def test_a_folder_that_does_not_hold_together_is_refused(
    shop: Collection, damage: object, error: type[LookalikeError]
) -> None:
    shop.close()
    assert callable(damage)
    damage(shop.path)
    with pytest.raises(error) as caught:
        Collection.open(shop.path)
    assert "shop.lookalike" in str(caught.value)


def test_another_metric_of_the_same_numbers_is_fine(shop: Collection) -> None:
    first = shop.knn(shop.vectors(["cat-1"]), 1, metric=Metric.COSINE)[0]
    assert (first.metric, first.hits[0].item.id) == (Metric.COSINE, "cat-1")


# ---- looking


def test_a_picture_finds_itself(shop: Collection, photos: Path) -> None:
    files: list[Path | bytes] = [photos / "cat" / "3.png", (photos / "horse" / "2.png").read_bytes()]
    answers = shop.knn(shop.embed(files), 4)
    assert [answer.hits[0].item.id for answer in answers] == ["cat-3", "horse-2"]
    for answer in answers:
        assert answer.hits[0].distance == pytest.approx(0, abs=1e-6)
        assert answer.hits[0].similarity == pytest.approx(1, abs=1e-6)
        distances = [hit.distance for hit in answer.hits]
        assert distances == sorted(distances)
        assert shop.within(shop.vectors(["cat-3"]), distances[-1])


def test_more_pictures_than_a_batch_are_embedded_in_order(shop: Collection, photos: Path) -> None:
    files = [photos / "cat" / f"{i % 5}.png" for i in range(130)]
    vectors = shop.embed(files)
    assert vectors.shape == (130, 48)
    assert np.allclose(vectors, shop.vectors([f"cat-{i % 5}" for i in range(130)]), atol=1e-6)
    assert shop.embed([]).shape == (0, 48)


def test_filters_choose_among_labels_attributes_and_ids(shop: Collection) -> None:
    query = shop.vectors(["cat-0"])

    def hits(where: Filter, k: int = 20) -> set[str]:
        found = {hit.item.id for hit in shop.knn(query, k, where)[0].hits}
        assert found == {hit.item.id for hit in shop.within(query, 10, where)[0].hits}
        return found

    assert hits(Filter(labels=frozenset({"cat"}))) == {f"cat-{i}" for i in range(5)}
    assert hits(Filter(attributes={"number": "3"})) == {"cat-3", "horse-3"}
    assert hits(Filter(labels=frozenset({"cat"}), attributes={"number": "3"})) == {"cat-3"}
    assert hits(Filter(ids=frozenset({"cat-1", "horse-1", "nobody"}))) == {"cat-1", "horse-1"}
    assert hits(Filter(labels=frozenset({"dog"}))) == set()
    assert hits(Filter(attributes={"number": "3", "colour": "red"})) == set()


def test_an_encoder_without_sketches_says_so(tmp_path: Path, photos: Path) -> None:
    from pocket_encoder import make  # noqa: PLC0415 -- see conftest.py

    encoder = Encoder.open(make(tmp_path / "photos only", branches=("photo",)))
    with Collection.create(tmp_path / "x.lookalike", encoder) as shop, pytest.raises(UsageError, match="sketch"):
        shop.embed([photos / "cat" / "1.png"], "sketch")


def test_an_item_that_is_not_there_is_reported(shop: Collection) -> None:
    assert shop.get("cat-1").label == "cat"
    with pytest.raises(NotFoundError, match="cat-9"):
        shop.get("cat-9")
    with pytest.raises(NotFoundError, match="cat-9"):
        shop.vectors(["cat-1", "cat-9"])


@pytest.mark.parametrize("question", [{"k": 3}, {"radius": 0.5}, {"radius": 99.0}])
def test_joins_are_those_of_search(shop: Collection, tmp_path: Path, photos: Path, question: dict[str, float]) -> None:
    def pairs(join: Join) -> list[tuple[str, str, float]]:
        return sorted(pair for m in join.matches() for pair in zip(m.left, m.right, m.distances, strict=True))

    def expected(blocks: Iterator[search.Pairs], left: list[str], right: list[str]) -> list[tuple[str, str, float]]:
        rows = [(b.left.tolist(), b.right.tolist(), b.distances.tolist()) for b in blocks]
        return sorted((left[i], right[j], d) for block in rows for i, j, d in zip(*block, strict=True))

    with Collection.create(tmp_path / "other.lookalike", shop.encoder) as other:
        other.add(entries(photos / "cat"))
        a, b = shop.vectors(ids(shop)), other.vectors(ids(other))
        k = int(question["k"]) if "k" in question else None
        within = DistanceRange(0, question["radius"]) if "radius" in question else None
        between = search.join(a, b, Metric.EUCLIDEAN, k=k, within=within)
        assert pairs(shop.join(other, k=k, within=within)) == expected(between, ids(shop), ids(other))
        inside = search.self_join(a, Metric.EUCLIDEAN, k=k, within=within)
        assert pairs(shop.join(k=k, within=within)) == expected(inside, ids(shop), ids(shop))
    assert all(left != right for left, right, _ in pairs(shop.join(within=DistanceRange(0, 99))))
    assert len(pairs(shop.join(within=DistanceRange(0, 99)))) == 10 * 9 // 2


def test_a_join_that_makes_no_sense_is_refused_at_the_call(shop: Collection, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        shop.join()
    with pytest.raises(UsageError):
        shop.join(k=1, within=DistanceRange(0, 1))
    other = Collection.create(tmp_path / "c.lookalike", shop.encoder, Metric.COSINE)
    with other, pytest.raises(MismatchError, match="one is compared by euclidean and the other by cosine"):
        shop.join(other, k=1)


# ---- putting in and taking out


def test_what_is_gone_is_noticed_and_removed(shop: Collection, photos: Path) -> None:
    assert shop.gone(photos) == []
    (photos / "cat" / "1.png").unlink()
    shutil.rmtree(photos / "horse")
    assert len(shop.gone(photos)) == 6
    assert [item.id for item in shop.gone(photos / "cat")] == ["cat-1"]
    assert shop.gone(photos / "ca") == []
    assert len(shop.gone(photos / "cat" / "..")) == 6
    assert shop.remove([item.id for item in shop.gone(photos)]) == 6
    assert shop.gone(photos) == []
    assert ids(shop) == ["cat-0", "cat-2", "cat-3", "cat-4"]
    assert len(shop.knn(shop.vectors(["cat-0"]), 20)[0].hits) == 4


def test_a_file_that_cannot_be_looked_at_is_not_gone(
    shop: Collection, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)
    assert shop.gone(photos) == []


def test_an_upload_is_kept_in_the_folder_and_goes_with_its_item(shop: Collection) -> None:
    data = pictures.png(99)
    item = shop.add_bytes(data, "cat", {"by": "me"})
    assert shop.file(item).read_bytes() == data
    assert shop.owns(item)
    assert shop.get(item.id) == item
    assert shop.knn(shop.embed([data]), 1)[0].hits[0].item == item
    assert shop.thumbnail(item)
    assert shop.remove([item.id, item.id]) == 1
    assert not shop.file(item).exists()
    assert list((shop.path / "cache" / "thumbnails").iterdir()) == []
    assert list((shop.path / "images").iterdir()) == []


def test_the_same_upload_is_the_same_item_and_embedded_once(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shop.add_bytes(pictures.png(99), "cat")
    monkeypatch.setattr(shop.encoder, "embed", lambda *_: pytest.fail("embedded again"))
    again = shop.add_bytes(pictures.png(99), "dog", {"by": "me"})
    assert again.id == first.id
    assert (shop.get(first.id).label, shop.get(first.id).attributes) == ("dog", {"by": "me"})
    assert shop.store.count() == 11


@pytest.mark.parametrize("data", [b"", b"no picture", pictures.png(1)[:50]])
def test_an_upload_that_is_no_picture_leaves_nothing_behind(shop: Collection, data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        shop.add_bytes(data)
    assert not (shop.path / "images").exists()
    assert shop.store.count() == 10


def test_files_elsewhere_stay_when_their_items_go(shop: Collection, photos: Path) -> None:
    assert not shop.owns(shop.get("cat-1"))
    assert shop.remove(["cat-1", "nobody"]) == 1
    assert (photos / "cat" / "1.png").exists()


def test_a_thumbnail_is_kept_and_made_anew_where_it_is_damaged(shop: Collection, photos: Path) -> None:
    item = shop.get("cat-1")
    small = shop.thumbnail(item, 16)
    (kept,) = (shop.path / "cache" / "thumbnails").iterdir()
    assert kept.read_bytes() == small
    (photos / "cat" / "1.png").rename(photos / "cat" / "moved.png")
    assert shop.thumbnail(item, 16) == small  # though its picture is gone
    (photos / "cat" / "moved.png").rename(photos / "cat" / "1.png")
    for damage in (b"", small[:-20], b"rubbish"):
        kept.write_bytes(damage)
        assert shop.thumbnail(item, 16) == small
    shutil.rmtree(shop.path / "cache")
    assert shop.thumbnail(item, 16) == small


def test_a_thumbnail_shows_the_picture_as_it_is_now_and_is_not_kept(shop: Collection, photos: Path) -> None:
    item = shop.get("cat-1")
    (photos / "cat" / "1.png").write_bytes(pictures.png(77))
    assert shop.thumbnail(item, 16) == images.thumbnail(pictures.png(77), 16)
    assert not (shop.path / "cache" / "thumbnails").exists()
    (photos / "cat" / "1.png").unlink()
    with pytest.raises(NotFoundError):
        shop.thumbnail(item, 16)


def test_threads_add_and_search_at_the_same_time(shop: Collection, photos: Path) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for i in range(6):
                item = shop.add_bytes(pictures.png(1000 + 10 * number + i))
                hit = shop.knn(shop.vectors([item.id]), 1)[0].hits[0]
                if hit.item.id != item.id or hit.distance:
                    wrong.append(hit)
                shop.add(entries(photos / "cat"))
        except Exception as e:  # noqa: BLE001 -- whatever it is, the test is to hear of it
            wrong.append(e)

    threads = [Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert shop.store.count() == 10 + 4 * 6 + 5
