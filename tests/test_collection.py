"""Collections: images, an embedder and a store in one folder."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

import image_files
from lookalike import images, search
from lookalike.collection import Collection, Entry, open_collection
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
from lookalike.ingest import plan
from lookalike.joins import JoinPairs
from lookalike.metric import Metric
from lookalike.query import DistanceRange, Filter, Query, Within
from lookalike.stores import Answer


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    image_files.write(
        tmp_path / "photos", {f"{label}/{i}.png": 10 * i + len(label) for label in ("cat", "horse") for i in range(5)}
    )
    return tmp_path / "photos"


@pytest.fixture
def shop(tmp_path: Path, photos: Path, pocket: Path) -> Iterator[Collection]:
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(pocket)) as shop:
        found = plan(photos, "folder")
        shop.add([Entry(e.path, e.label, {"number": e.path.stem}, f"{e.label}-{e.path.stem}") for e in found])
        yield shop


def ids(collection: Collection) -> list[str]:
    return [item.id for item in collection.store.scan()]


# ---- the folder


def test_a_collection_needs_no_file_outside_its_folder(tmp_path: Path, pocket: Path, photos: Path) -> None:
    encoder = shutil.copytree(pocket, tmp_path / "encoder")
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(encoder)) as shop:
        shop.add(photos)
        expected = shop.search(photos / "cat" / "1.png", k=3)
    shutil.rmtree(encoder)
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(tmp_path / "shop.lookalike", moved)
    shutil.rmtree(tmp_path / "shop.lookalike")
    with Collection.open(moved) as shop:
        assert shop.search(photos / "cat" / "1.png", k=3) == expected
        assert len(shop.search(photos / "cat" / "1.png", sketch=True)) == 10
        assert shop.name == "renamed"


def test_create_overwrites_nothing(shop: Collection) -> None:
    with pytest.raises(AlreadyExistsError):
        Collection.create(shop.path, shop.embedder.encoder)
    assert len(ids(shop)) == 10


def test_a_metric_that_does_not_fit_the_encoder_is_refused(tmp_path: Path, pocket: Path) -> None:
    with pytest.raises(UsageError, match="hamming"):
        Collection.create(tmp_path / "x.lookalike", Encoder.open(pocket), Metric.HAMMING)
    assert list(tmp_path.iterdir()) == []
    with Collection.create(tmp_path / "x.lookalike", Encoder.open(pocket), Metric.COSINE) as shop:
        assert shop.metric is Metric.COSINE


def swap(path: Path) -> None:
    card = json.loads((path / "encoder" / "encoder.json").read_text(encoding="utf-8"))
    card["input"]["mean"] = [0.5, 0.5, 0.5]
    (path / "encoder" / "encoder.json").write_text(json.dumps(card), encoding="utf-8")


def retrain(path: Path) -> None:
    network = path / "encoder" / "photo.onnx"
    network.write_bytes(network.read_bytes() + b"\x32\0")  # an empty doc_string


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
        (change(codec="pca9000"), MismatchError),
        (change(store="milvus://nowhere/shop"), UsageError),
        (lambda path: shutil.rmtree(path / "encoder"), StorageError),
        (lambda path: (path / "encoder" / "photo.onnx").unlink(), EncoderError),
        (lambda path: (path / "encoder" / "encoder.json").write_text("{"), EncoderError),
        (lambda path: (path / "catalog.sqlite").unlink(), StorageError),
        (lambda path: (path / "manifest.json").write_text("{"), StorageError),
        (lambda path: (path / "manifest.json").unlink(), NotFoundError),
        (shutil.rmtree, NotFoundError),
    ],
)
def test_an_invalid_folder_is_refused(shop: Collection, damage: object, error: type[LookalikeError]) -> None:
    shop.close()
    assert callable(damage)
    damage(shop.path)
    with pytest.raises(error) as caught:
        Collection.open(shop.path)
    assert any(word in str(caught.value) for word in ("shop.lookalike", "pca9000", "milvus://"))


# ---- search


def hit_ids(answer: Answer) -> list[str]:
    return [hit.item.id for hit in answer]


def test_another_metric_can_be_chosen(shop: Collection) -> None:
    for metric in ("cosine", Metric.COSINE):
        answer = shop.search(vector=shop.store.vectors(["cat-1"])[0], k=1, metric=metric)
        assert isinstance(answer, Answer)
        assert (answer.metric, hit_ids(answer)) == (Metric.COSINE, ["cat-1"])


def test_an_image_finds_itself(shop: Collection, photos: Path) -> None:
    files: list[images.ImageSource] = [photos / "cat" / "3.png", (photos / "horse" / "2.png").read_bytes()]
    answers = shop.search(files, k=4)
    assert [answer[0].item.id for answer in answers] == ["cat-3", "horse-2"]
    for answer in answers:
        assert answer[0].distance == pytest.approx(0, abs=1e-6)
        assert answer[0].similarity == pytest.approx(1, abs=1e-6)
        distances = [hit.distance for hit in answer]
        assert distances == sorted(distances)


def test_every_form_of_an_image_gives_the_same_answer(shop: Collection, photos: Path) -> None:
    path = photos / "cat" / "3.png"
    with Image.open(path) as image:
        sources: list[images.ImageSource] = [path, str(path), path.read_bytes(), image.copy(), np.asarray(image)]
    expected = shop.search(path)
    assert len(expected) == 10
    for source in sources:
        assert shop.search(source) == expected
        assert shop.search([source, source]) == [expected, expected]
    assert shop.search([]) == []


def test_items_and_vectors_give_the_same_hits_as_images(shop: Collection, photos: Path) -> None:
    by_image = shop.search(photos / "cat" / "3.png", k=4)
    vectors = shop.store.vectors(["cat-3", "horse-1"])
    by_vector = shop.search(vector=vectors[0], k=4)
    assert isinstance(by_vector, Answer)
    assert hit_ids(by_image) == hit_ids(by_vector)
    assert len(shop.search(vector=vectors)) == 2
    # An item is not among its own hits.
    assert hit_ids(shop.search(item="cat-3", k=3)) == hit_ids(by_image)[1:]
    assert [len(answer) for answer in shop.search(item=["cat-3", "horse-1"])] == [9, 9]
    some = shop.search(item="cat-3", within=99, limit=4)
    assert (len(some), some.complete, "cat-3" in hit_ids(some)) == (4, False, False)
    every = shop.search(item="cat-3", within=99, limit=9)
    assert (len(every), every.complete) == (9, True)


def test_every_form_of_a_range_gives_the_same_hits(shop: Collection, photos: Path) -> None:
    image = photos / "cat" / "3.png"
    distances = [hit.distance for hit in shop.search(image)]
    ranges: list[Within] = [0.25, "0.25", "80%", (0, 0.25), DistanceRange(0, 0.25)]
    for within in ranges:
        found = [hit.distance for hit in shop.search(image, within=within)]
        assert found == [d for d in distances if d <= 0.25]
    between = [hit.distance for hit in shop.search(image, within=f"{distances[2]!r}..{distances[5]!r}")]
    assert between == distances[2:6]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"k": 0}, "at least 1"),
        ({"k": 2, "within": 0.5}, "not both"),
        ({"within": 0.5, "far": 0.01}, "not both"),
        ({"within": "3..2"}, "empty"),
        ({"far": 0.01}, "calibrate"),
        ({"metric": "manhattan"}, "manhattan"),
        ({"metric": "hamming"}, "floats"),
        ({"number": 3}, "number"),
        ({"item": "cat-1"}, "Give exactly one"),
        ({"vector": np.zeros(48)}, "Give exactly one"),
    ],
)
def test_invalid_options_are_refused(shop: Collection, photos: Path, options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        shop.search(photos / "cat" / "1.png", **options)


@pytest.mark.parametrize("wrong", [None, 7, 1.5, {}, np.zeros((3, 3)), [7], [None]])
def test_a_value_that_is_not_an_image_is_refused(shop: Collection, wrong: Any) -> None:  # noqa: ANN401 -- wrong on purpose
    with pytest.raises(UsageError):
        shop.search(wrong)


@pytest.mark.parametrize("wrong", [None, 7, b"shop"])
def test_a_value_that_is_not_a_path_is_refused(wrong: Any) -> None:  # noqa: ANN401 -- wrong on purpose
    with pytest.raises(UsageError, match="path"):
        Collection.open(wrong)


def test_an_empty_path_is_not_the_current_folder(shop: Collection) -> None:
    with pytest.raises(UsageError, match="empty"):
        shop.add("")
    with pytest.raises(UsageError, match="empty"):
        open_collection("")


def test_an_answer_shows_thumbnails_in_a_notebook(shop: Collection, photos: Path) -> None:
    html = shop.search(photos / "cat" / "1.png", k=2)._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 2


def test_a_stream_gives_all_parts_of_an_answer(shop: Collection, photos: Path) -> None:
    whole = shop.search(photos / "cat" / "1.png", within=99)
    query = Query(images=[photos / "cat" / "1.png"], within=DistanceRange(0, 99))
    assert [hit for part in shop.stream(query) for hit in part] == list(whole)


def test_filters_select_by_labels_attributes_and_ids(shop: Collection) -> None:
    vector = shop.store.vectors(["cat-0"])

    def hits(where: Filter) -> set[str]:
        (answer,) = shop.answer(Query(vectors=vector, k=20, where=where))
        (other,) = shop.answer(Query(vectors=vector, within=DistanceRange(0, 10), where=where))
        assert set(hit_ids(answer)) == set(hit_ids(other))
        return set(hit_ids(answer))

    assert hits(Filter(labels=frozenset({"cat"}))) == {f"cat-{i}" for i in range(5)}
    assert hits(Filter(attributes={"number": "3"})) == {"cat-3", "horse-3"}
    assert hits(Filter(labels=frozenset({"cat"}), attributes={"number": "3"})) == {"cat-3"}
    assert hits(Filter(ids=frozenset({"cat-1", "horse-1", "nobody"}))) == {"cat-1", "horse-1"}
    assert hits(Filter(labels=frozenset({"dog"}))) == set()
    assert hits(Filter(attributes={"number": "3", "colour": "red"})) == set()
    assert hit_ids(shop.search(item="cat-0", label="horse", where={"number": "3"})) == ["horse-3"]
    either = shop.search(item="cat-0", label=["horse", "cat"], where={"number": "3"})
    assert set(hit_ids(either)) == {"cat-3", "horse-3"}


def test_a_sketch_needs_an_encoder_with_a_sketch_branch(tmp_path: Path, photos: Path) -> None:
    from pocket_encoder import make  # noqa: PLC0415 -- see conftest.py

    encoder = Encoder.open(make(tmp_path / "photos only", branches=("photo",)))
    with Collection.create(tmp_path / "x.lookalike", encoder) as shop, pytest.raises(UsageError, match="sketch"):
        shop.search(photos / "cat" / "1.png", sketch=True)


def test_a_missing_item_is_reported(shop: Collection) -> None:
    assert shop.get("cat-1").label == "cat"
    with pytest.raises(NotFoundError, match="cat-9"):
        shop.get("cat-9")
    with pytest.raises(NotFoundError, match="cat-9"):
        shop.search(item=["cat-1", "cat-9"])


@pytest.mark.parametrize("options", [{"k": 3}, {"radius": 0.5}, {"radius": 99.0}])
def test_joins_equal_those_of_search(shop: Collection, tmp_path: Path, photos: Path, options: dict[str, float]) -> None:
    def pairs(joined: JoinPairs) -> list[tuple[str, str, float]]:
        return sorted((pair.left.id, pair.right.id, pair.distance) for pair in joined)

    def expected(chunks: Iterator[search.Pairs], left: list[str], right: list[str]) -> list[tuple[str, str, float]]:
        rows = [(c.left.tolist(), c.right.tolist(), c.distances.tolist()) for c in chunks]
        return sorted((left[i], right[j], d) for chunk in rows for i, j, d in zip(*chunk, strict=True))

    with Collection.create(tmp_path / "other.lookalike", shop.embedder.encoder) as other:
        other.add(photos / "cat")
        a, b = shop.store.vectors(ids(shop)), other.store.vectors(ids(other))
        k = int(options["k"]) if "k" in options else None
        within = DistanceRange(0, options["radius"]) if "radius" in options else None
        between = search.join(a, b, Metric.EUCLIDEAN, k=k, within=within)
        assert pairs(shop.join(other, k=k, within=within)) == expected(between, ids(shop), ids(other))
        inside = search.self_join(a, Metric.EUCLIDEAN, k=k, within=within)
        assert pairs(shop.join(k=k, within=within)) == expected(inside, ids(shop), ids(shop))
    assert all(left != right for left, right, _ in pairs(shop.join(within=DistanceRange(0, 99))))
    assert len(pairs(shop.join(within=DistanceRange(0, 99)))) == 10 * 9 // 2


def test_an_invalid_join_is_refused_at_the_call(shop: Collection, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        shop.join()
    with pytest.raises(UsageError):
        shop.join(k=1, within=DistanceRange(0, 1))
    with pytest.raises(UsageError, match="whole number"):
        shop.join(k="one")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(UsageError, match="Collection"):
        shop.join("other", k=1)  # type: ignore[arg-type]  # as above
    other = Collection.create(tmp_path / "c.lookalike", shop.embedder.encoder, Metric.COSINE)
    with other, pytest.raises(MismatchError, match=r"euclidean.*cosine"):
        shop.join(other, k=1)


# ---- add and remove


def test_missing_files_are_found_and_their_items_removed(shop: Collection, photos: Path) -> None:
    assert shop.missing(photos) == []
    (photos / "cat" / "1.png").unlink()
    shutil.rmtree(photos / "horse")
    assert len(shop.missing(photos)) == 6
    assert [item.id for item in shop.missing(photos / "cat")] == ["cat-1"]
    assert shop.missing(photos / "ca") == []
    assert len(shop.missing(photos / "cat" / "..")) == 6
    assert shop.remove([item.id for item in shop.missing(photos)]) == 6
    assert shop.missing(photos) == []
    assert ids(shop) == ["cat-0", "cat-2", "cat-3", "cat-4"]
    assert len(shop.search(item="cat-0")) == 3


def test_an_item_says_whether_its_file_is_missing(shop: Collection, photos: Path) -> None:
    upload = shop.add_image(image_files.png(99))
    assert not any(map(shop.is_missing, shop))
    (photos / "cat" / "1.png").unlink()
    (shop.path / upload.uri).unlink()
    assert {item.id for item in shop if shop.is_missing(item)} == {"cat-1", upload.id}


def test_a_file_in_a_forbidden_folder_is_not_missing(
    shop: Collection, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)
    assert shop.missing(photos) == []


def test_an_upload_is_stored_in_the_folder_and_deleted_with_its_item(shop: Collection) -> None:
    data = image_files.png(99)
    item = shop.add_image(data, "cat", {"by": "me"})
    assert shop.folder.file(item).read_bytes() == data
    assert shop.folder.owns(item)
    assert shop.get(item.id) == item
    assert shop.search(data, k=1)[0].item == item
    assert shop.folder.thumbnail(item)
    assert shop.remove([item.id, item.id]) == 1
    assert not shop.folder.file(item).exists()
    assert list((shop.path / "cache" / "thumbnails").iterdir()) == []
    assert list((shop.path / "images").iterdir()) == []


def test_name_size_and_time_of_files_and_uploads_are_known(shop: Collection, photos: Path) -> None:
    data = image_files.png(99)
    upload = shop.add_image(data, attributes={"by": "me"}, filename="Mug (1).png")
    assert (upload.name, upload.size) == ("Mug (1).png", len(data))
    assert upload.attributes == {"by": "me", "filename": "Mug (1).png"}
    assert upload.modified is not None
    assert abs((datetime.now(UTC) - upload.modified).total_seconds()) < 60
    item = shop.get("cat-1")
    status = (photos / "cat" / "1.png").stat()
    assert (item.name, item.size) == ("1.png", status.st_size)
    assert item.modified is not None
    assert abs(item.modified.timestamp() - status.st_mtime) < 1e-3


def test_the_same_upload_twice_is_one_item_and_embedded_once(shop: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shop.add_image(image_files.png(99), "cat")
    monkeypatch.setattr(shop.embedder.encoder, "embed", lambda *_: pytest.fail("embedded again"))
    again = shop.add_image(image_files.png(99), "dog", {"by": "me"})
    assert again.id == first.id
    assert (shop.get(first.id).label, shop.get(first.id).attributes) == ("dog", {"by": "me"})
    assert shop.store.count() == 11


@pytest.mark.parametrize("data", [b"", b"text", image_files.png(1)[:50]])
def test_an_upload_that_is_not_an_image_leaves_nothing_behind(shop: Collection, data: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        shop.add_image(data)
    assert not (shop.path / "images").exists()
    assert shop.store.count() == 10


def test_files_outside_the_folder_stay_when_their_items_are_removed(shop: Collection, photos: Path) -> None:
    assert not shop.folder.owns(shop.get("cat-1"))
    assert shop.remove(["cat-1", "nobody"]) == 1
    assert (photos / "cat" / "1.png").exists()


def test_a_thumbnail_is_cached_and_made_again_if_damaged(shop: Collection, photos: Path) -> None:
    item = shop.get("cat-1")
    small = shop.folder.thumbnail(item, 16)
    (kept,) = (shop.path / "cache" / "thumbnails").iterdir()
    assert kept.read_bytes() == small
    (photos / "cat" / "1.png").rename(photos / "cat" / "moved.png")
    assert shop.folder.thumbnail(item, 16) == small  # from the cache: the image file is missing
    (photos / "cat" / "moved.png").rename(photos / "cat" / "1.png")
    for damage in (b"", small[:-20], b"rubbish"):
        kept.write_bytes(damage)
        assert shop.folder.thumbnail(item, 16) == small
    shutil.rmtree(shop.path / "cache")
    assert shop.folder.thumbnail(item, 16) == small


def test_a_thumbnail_of_a_changed_file_shows_the_new_image_and_is_not_cached(shop: Collection, photos: Path) -> None:
    item = shop.get("cat-1")
    (photos / "cat" / "1.png").write_bytes(image_files.png(77))
    assert shop.folder.thumbnail(item, 16) == images.thumbnail(image_files.png(77), 16)
    assert not (shop.path / "cache" / "thumbnails").exists()
    (photos / "cat" / "1.png").unlink()
    with pytest.raises(NotFoundError):
        shop.folder.thumbnail(item, 16)


def test_threads_add_and_search_at_the_same_time(shop: Collection, photos: Path) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for i in range(6):
                item = shop.add_image(image_files.png(1000 + 10 * number + i))
                (answer,) = shop.answer(Query(vectors=shop.store.vectors([item.id]), k=1))
                hit = answer[0]
                if hit.item.id != item.id or hit.distance:
                    wrong.append(hit)
                shop.add(photos / "cat")
        except Exception as e:  # noqa: BLE001 -- the test reports any error
            wrong.append(e)

    threads = [Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert shop.store.count() == 10 + 4 * 6  # the files of the folder are items already, under ids of their own


# ---- open or create


def test_a_collection_is_created_only_with_an_encoder(tmp_path: Path, pocket: Path, photos: Path) -> None:
    with pytest.raises(NotFoundError, match="mine"):
        open_collection(tmp_path / "mine")
    with open_collection(str(tmp_path / "mine"), encoder=pocket) as mine:
        assert mine.path == tmp_path / "mine.lookalike"
        assert mine.add(photos, labels="folder").embedded == 10
        assert mine.add(str(photos / "cat" / "1.png")).unchanged == 1
        assert len(mine) == 10
        assert mine
    with open_collection(tmp_path / "mine", encoder=Encoder.open(pocket), metric="euclidean") as mine:
        assert mine.store.labels() == {"cat": 5, "horse": 5}
        assert "10 items" in repr(mine)
    with pytest.raises(MismatchError, match="cosine"):
        open_collection(tmp_path / "mine", metric="cosine")
    with pytest.raises(MismatchError, match="toyshop"):
        open_collection(tmp_path / "mine", encoder="toyshop")
    with open_collection(tmp_path / "mine") as mine, pytest.raises(UsageError, match="labels"):
        mine.add([Entry(photos / "cat" / "1.png")], labels="folder")


def test_a_verdict_and_a_ranking_come_from_the_collections_encoder(shop: Collection, photos: Path) -> None:
    cat, horse = photos / "cat" / "1.png", photos / "horse" / "1.png"
    assert shop.verify(cat, cat, within="80%").same is True
    assert shop.verify(cat, horse, within=0.0).same is False
    with pytest.raises(UsageError, match="calibrate"):
        shop.verify(cat, horse, far=0.01)
    ranking = shop.classify(cat, 2)
    assert ranking.label == "cat"
    assert [one.label for one in ranking] == ["cat", "horse"]
    assert "cat" in str(ranking)
    assert [ranking.label for ranking in shop.classify([cat, horse])] == ["cat", "horse"]


def test_the_pairs_of_a_join_print_convert_and_are_written(shop: Collection, tmp_path: Path) -> None:
    pairs = shop.join(within="60%")
    listed = list(pairs)
    assert listed
    assert all(pair.distance <= 2 / 3 for pair in listed)
    assert str(pairs).splitlines()[0].split() == ["distance", "left", "right"]
    assert pairs.to_pandas()["left"].tolist() == [pair.left.uri for pair in listed]
    assert pairs.to_arrow()["distance"].to_pylist() == [pair.distance for pair in listed]
    assert pairs._repr_html_().count("<img") == 2 * min(20, len(listed))
    assert pairs.write(tmp_path / "pairs.csv").pairs == len(listed)
    assert pairs.recall == 1
    assert len(repr(pairs)) < 100
    nothing = shop.join(within=0.0)
    assert (str(nothing), nothing._repr_html_(), len(nothing.to_pandas())) == ("No pairs.", "<p>No pairs.</p>", 0)


@pytest.mark.parametrize("wrong", [None, "mug.jpg", np.zeros(3)])
def test_what_is_not_a_query_is_refused(shop: Collection, wrong: Any) -> None:  # noqa: ANN401 -- wrong on purpose
    with pytest.raises(UsageError, match="Query"):
        shop.answer(wrong)
    with pytest.raises(UsageError, match="Query"):
        shop.stream(wrong)
