"""Compressed collections: they answer as the plain engine over decoded vectors, and nothing is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lookalike as la
from image_files import png
from lookalike import search
from lookalike.cli import main
from lookalike.codec_choice import _slow, pick
from lookalike.codecs import Codec, Pca
from lookalike.collection import Collection, Entry
from lookalike.compress import parse_codec
from lookalike.errors import LookalikeError, MismatchError, StorageError, UsageError
from lookalike.evaluation import retrieval
from lookalike.evaluation.labels import LabelledVectors
from lookalike.folder import Folder
from lookalike.measured_codecs import MeasuredCodec, text_chart
from lookalike.metric import Metric, VectorSpace, pairwise
from lookalike.query import DistanceRange, Filter, Query
from lookalike.rows import RowFormat
from lookalike.search import CodedVectors, Hits
from lookalike.stores import Answer, Item, SQLiteStore

Array = np.ndarray[Any, np.dtype[Any]]

CODECS = [
    "pca:5",
    "scalar:float16",
    "scalar:int8",
    "scalar:4",
    "pca:6:rotate+scalar:2",
    "binary:16:sign",
    "product:4:no-rotate",
    "rabitq:2",
]
METRICS = [Metric.EUCLIDEAN, Metric.COSINE]
COUNT = 9


def embeddings(count: int, seed: int = 0) -> Array:
    vectors = np.random.default_rng(seed).standard_normal((count, 12)).astype(np.float32)
    vectors[count // 2] = vectors[0]
    return vectors


def answered(store: SQLiteStore, query: Query) -> list[list[tuple[str, float]]]:
    return [[(hit.item.id, hit.distance) for hit in answer] for answer in store.search(query)]


def expected(hits: Hits, ids: list[str]) -> list[list[tuple[str, float]]]:
    return [[(ids[row], float(d)) for row, d in zip(rows, distances, strict=True)] for rows, distances in hits]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("text", CODECS)
def test_a_store_of_codes_answers_as_the_engine_over_decoded_vectors(
    text: str, metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if metric is Metric.COSINE:  # decoded in each pass, as a large collection is
        monkeypatch.setattr("lookalike.search.coded._KEPT", 0)
        monkeypatch.setattr("lookalike.search.bounds.DECODED", 7 * 12 * 4)
    space, vectors = VectorSpace(metric, 12), embeddings(40)
    codec = parse_codec(text, space).fit(vectors)
    rows = RowFormat(codec.space, codec, originals=True)
    SQLiteStore.create(tmp_path, space).replace_vectors(lambda _: {}, "{}", rows)
    store = SQLiteStore.open(tmp_path, rows, "{}")
    metric, queries = codec.space.metric, codec.project(embeddings(3, 1))
    assert answered(store, Query(vectors=queries, k=2)) == [[], [], []]
    ids = [f"{i:02}" for i in range(40)]
    store.upsert([Item(i, "", "ab"[int(i) % 2]) for i in ids[:1]], rows.encode(vectors[:1]))
    assert [[ident for ident, _ in hits] for hits in answered(store, Query(vectors=queries, k=2))] == [["00"]] * 3
    store.upsert([Item(i, "", "ab"[int(i) % 2]) for i in ids[1:]], rows.encode(vectors[1:]))
    decoded = codec.decode(codec.encode(vectors))
    for k in (1, 7, 50):
        assert answered(store, Query(vectors=queries, k=k)) == expected(search.knn(queries, decoded, k, metric), ids)
    reach = DistanceRange(0, float(search.knn(queries, decoded, 9, metric).distances[8]))
    within = expected(search.within(queries, decoded, reach, metric), ids)
    assert answered(store, Query(vectors=queries, within=reach, limit=None)) == within
    odd = np.arange(1, 40, 2)
    filtered = answered(store, Query(vectors=queries, k=4, where=Filter(labels=frozenset("b"))))
    assert filtered == expected(search.knn(queries, decoded, 4, metric, rows=odd), ids)
    pairs = list(search.self_join(store.snapshot().vectors, metric, k=2))
    plain = list(search.self_join(decoded, metric, k=2))
    for one, other in zip(pairs, plain, strict=True):
        np.testing.assert_array_equal(one.right, other.right)
        np.testing.assert_array_equal(one.distances, other.distances)
    np.testing.assert_array_equal(store.vectors(ids), decoded)
    np.testing.assert_array_equal(store.embeddings(ids), vectors)
    store.upsert([Item("copy", "")], store.rows(["03"]))
    np.testing.assert_array_equal(store.embeddings(["copy"]), vectors[3:4])
    store.delete(["00", "copy"])
    assert answered(store, Query(vectors=queries, k=50)) == expected(
        search.knn(queries, decoded, 50, metric, rows=np.arange(1, 40)), ids
    )
    with pytest.raises(UsageError, match="rows of"):
        store.upsert([Item("x", "")], vectors[:1])
    store.close()


def test_vectors_in_codes_have_an_index_of_decoded_vectors(tmp_path: Path) -> None:
    space, vectors = VectorSpace(Metric.EUCLIDEAN, 12), embeddings(1200)
    codec = parse_codec("scalar:int8", space).fit(vectors)
    rows = RowFormat(space, codec)
    SQLiteStore.create(tmp_path, space).replace_vectors(lambda _: {}, "{}", rows)
    store = SQLiteStore.open(tmp_path, rows, "{}")
    store.upsert([Item(f"{i:04}", "") for i in range(1200)], rows.encode(vectors))
    assert isinstance(store.snapshot().vectors, CodedVectors)
    assert store.build_index()
    found = answered(store, Query(vectors=vectors[:20], k=3, exact=False))
    exact = answered(store, Query(vectors=vectors[:20], k=3, exact=True))
    assert sum(one == other for one, other in zip(found, exact, strict=True)) > 15
    with pytest.raises(UsageError, match="without the original"):
        store.embeddings(["0001"])
    store.close()


# ---- collections


def save(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number))
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i in range(COUNT):
        save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png", i)
    return tmp_path / "photos"


@pytest.fixture
def shop(tmp_path: Path, pocket: Path, photos: Path) -> Iterator[Collection]:
    with la.open(tmp_path / "shop", encoder=pocket) as collection:
        collection.add(photos, labels="folder")
        yield collection


def stored(collection: Collection) -> SQLiteStore:
    assert isinstance(collection.store, SQLiteStore)
    return collection.store


def items(collection: Collection) -> dict[str, Item]:
    return {item.id: item for item in collection}


def by_vector(collection: Collection, vector: Array) -> Answer:
    answer = collection.search(vector=vector, k=1)
    assert isinstance(answer, Answer)
    return answer


def check(collection: Collection, codec: str) -> None:
    """Check that each item has the code of its image, that the embedding is kept, and that searches find it."""
    listed = list(collection)
    paths = [collection.folder.file(item) for item in listed]
    collection.search(paths[0])  # opens it again if it was compressed
    embedder = collection.embedder
    assert embedder.codec.name == codec
    raw = la.embed(paths, encoder=collection.path)
    np.testing.assert_array_equal(stored(collection).embeddings([item.id for item in listed]), raw)
    decoded = embedder.codec.decode(embedder.codec.encode(raw))
    np.testing.assert_array_equal(collection.store.vectors([item.id for item in listed]), decoded)
    queries = embedder.codec.project(raw)
    exact = search.knn(queries, decoded, 1, collection.metric)
    for item, path, vector, (rows, distances) in zip(listed, paths, raw, exact, strict=True):
        for answer in (collection.search(path, k=1), collection.search([path], k=1)[0]):
            assert answer[0].distance == distances[0]
            assert answer[0].item.id == listed[rows[0]].id
        assert by_vector(collection, vector)[0].distance == distances[0]
        assert item.id in items(collection)


def test_a_collection_is_compressed_and_back_bit_for_bit(shop: Collection, photos: Path, tmp_path: Path) -> None:
    before, ids = items(shop), list(items(shop))
    vectors = shop.store.vectors(ids)
    manifest = shop.folder.manifest
    with Collection.open(shop.path) as other:
        result = shop.compress("pca:4")
        assert (result.items, result.originals, result.original_bytes) == (COUNT, True, vectors[0].nbytes)
        check(shop, "pca")
        check(other, "pca")  # it was open
        assert items(shop) == before
        other.add(save(tmp_path / "new.png", 70))
        other.add_image(png(71), "upload")
        other.add([Entry(Path(shutil.copy(photos / "a" / "0.png", tmp_path / "copy.png")))])
        check(shop, "pca")
        first = next(iter(shop))
        assert shop.search(item=first.id, k=COUNT + 2)[0].item.id != first.id
        assert shop.join(k=1).write(tmp_path / "pairs.csv").pairs > COUNT // 2
        assert shop.classify(photos / "a" / "0.png", k=1)[0].label in {"a", "b", "upload"}
        shop.compress("scalar:int8")  # of the originals
        check(shop, "scalar")
        shop.relocate(photos, photos, dry_run=True)
        shop.decompress()
        check(other, "none")
    assert shop.folder.manifest == manifest
    np.testing.assert_array_equal(shop.store.vectors(ids), vectors)
    assert not [path for path in shop.path.iterdir() if path.name.startswith("codec")]
    with pytest.raises(UsageError, match="not compressed"):
        shop.decompress()


def test_a_codec_that_learns_from_labels_is_fitted_to_the_labelled_items(shop: Collection, tmp_path: Path) -> None:
    shop.add(save(tmp_path / "unlabelled.png", 70))
    assert shop.compress("crs:2").codec == "crs to 2 floats"
    check(shop, "learned")
    with la.open(tmp_path / "bare", encoder=shop.path) as bare:
        bare.add(tmp_path / "photos")
        with pytest.raises(UsageError, match="no image of “bare” has one"):
            bare.compress("pca:4+dsh:8")


def test_originals_can_be_dropped_and_embedded_again(shop: Collection, pocket: Path) -> None:
    vectors = shop.store.vectors(list(items(shop)))
    shop.compress("scalar:int8", drop_originals=True)
    assert by_vector(shop, vectors[0])[0].distance < 0.01
    for change in (shop.decompress, lambda: shop.compress("pca:4")):
        with pytest.raises(UsageError, match="without its original"):
            change()
    shop.reindex(pocket)
    check(shop, "none")


def test_collections_with_one_codec_can_be_joined(shop: Collection, pocket: Path, photos: Path, tmp_path: Path) -> None:
    with la.open(tmp_path / "other", encoder=pocket) as other:
        other.add(photos / "a")
        shop.compress("pca:4")
        with pytest.raises(MismatchError, match="codecs differ"):
            shop.join(other, k=1)
        other.compress(str(shop.path))
        assert other.embedder.codec_id == shop.embedder.codec_id
        assert {pair.distance for pair in shop.join(other, k=1)} >= {0.0}


def test_wrong_codecs_are_refused(shop: Collection, tmp_path: Path, pocket: Path) -> None:
    for text in (
        "zip",
        "pca:64:x",
        "product:4:centroids",
        "binary:6:whiten",
        "pca:0",
        "scalar:5",
        "none",
        "pca:4+none",
        "",
    ):
        with pytest.raises(UsageError):
            shop.compress(text)
    with pytest.raises(UsageError, match="does not compress"):
        shop.compress(Pca(VectorSpace(Metric.EUCLIDEAN, 12), 4).fit(embeddings(20)))
    with la.open(tmp_path / "empty", encoder=pocket) as empty, pytest.raises(UsageError, match="Add images"):
        empty.compress("pca:4")
    check(shop, "none")


def test_a_damaged_or_missing_codec_is_reported(shop: Collection, tmp_path: Path) -> None:
    shop.compress("scalar:int8")
    (folder,) = shop.path.glob("codec-*")
    for name in ("codec.json", "codec.safetensors"):
        damaged = tmp_path / f"{name}.lookalike"
        shutil.copytree(shop.path, damaged)
        file = damaged / folder.name / name
        file.write_bytes(file.read_bytes().replace(b"6", b"7"))
        with pytest.raises(LookalikeError, match="codec"):
            Collection.open(damaged)
        file.unlink()
        with pytest.raises(StorageError, match="codec"):
            Collection.open(damaged)
        file.symlink_to(folder / name)
        with pytest.raises(StorageError, match="link"):
            Collection.open(damaged)


KILLED = """
import os, signal, sys
from lookalike.collection import Collection
from lookalike.stores.sqlite import store

point, path, codec = sys.argv[1:]

def after(owner, name):
    inner = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: (inner(*args, **kwargs), os.kill(os.getpid(), signal.SIGKILL)))

match point:
    case "codes":
        after(store, "replace_vectors")
    case "swap":
        after(store.SQLiteStore, "replace_vectors")
with Collection.open(path) as shop:
    shop.compress(codec) if codec else shop.decompress()
"""


@pytest.mark.parametrize(("point", "swapped"), [("codes", False), ("swap", True)])
def test_a_kill_leaves_the_vectors_or_the_codes(point: str, swapped: bool, shop: Collection) -> None:
    before = items(shop)

    def run(codec: str) -> None:
        arguments = [sys.executable, "-c", textwrap.dedent(KILLED), point, str(shop.path), codec]
        killed = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr

    run("scalar:int8")
    for collection in (shop, Collection.open(shop.path)):
        check(collection, "scalar" if swapped else "none")
        assert items(collection) == before
    shop.compress("scalar:int8")
    check(shop, "scalar")
    run("")
    check(Collection.open(shop.path), "none" if swapped else "scalar")
    assert len(list(shop.path.glob("codec-*"))) <= 1


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | os.PathLike[str]) -> int:
    monkeypatch.setattr("sys.argv", ["lookalike", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


def test_the_command(shop: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "compress", shop.path, "--codec", "scalar:int8", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["items"] == COUNT
    assert facts["bytes_per_item"] > facts["original_bytes"] / 4
    assert run(monkeypatch, "info", shop.path) == 0
    shown = capsys.readouterr().out
    assert "scalar of 8 bits" in shown
    assert "kept" in shown
    assert run(monkeypatch, "compress", shop.path, "--undo") == 0
    assert "original vectors" in capsys.readouterr().out
    assert run(monkeypatch, "compress", shop.path) == 2
    assert run(monkeypatch, "compress", shop.path, "--undo", "--drop-original") == 2


def test_a_chart_shows_each_codec_in_80_columns() -> None:
    chart = text_chart([(6.8, 0.85), (22.6, 0.997), (75.7, 1.03), (1024, 1)], (22.6, 0.997), "mAP kept").splitlines()
    assert max(map(len, chart)) <= 80
    lines = {line.split()[0].strip("│"): line for line in chart if "%" in line}
    assert lines["103%"].count("○") == lines["85%"].count("○") == 1
    assert "●" in "".join(chart)
    assert lines["100%"].endswith("□")
    assert chart[-1].split() == ["8", "16", "32", "64", "128", "256", "512", "1,024"]
    alone = text_chart([(16, 1.0), (16, 1.0)], (16, 1.0), "mAP kept")
    assert alone.count("●") == 1


def test_the_codec_of_a_plain_collection_is_none(shop: Collection) -> None:
    codec: Codec = Folder.open(shop.path).codec
    assert codec.name == "none"
    assert "compression" not in (shop.path / "manifest.json").read_text()


# ---- the choice by measurement


@pytest.fixture
def many(tmp_path: Path, pocket: Path) -> Iterator[Collection]:
    """A collection whose vectors are in clusters, each with a label."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((6, 48)).astype(np.float32)
    with la.open(tmp_path / "many", encoder=pocket) as collection:
        labels = np.arange(120) % 6
        vectors = centres[labels] + 0.8 * rng.standard_normal((120, 48)).astype(np.float32)
        collection.store.upsert([Item(f"{i:03}", "", str(labels[i])) for i in range(120)], vectors)
        yield collection


@pytest.mark.parametrize("labelled", [True, False])
def test_quality_is_map_of_held_out_items_or_recall_of_neighbours(labelled: bool, many: Collection) -> None:
    if not labelled:
        many.store.update([(item, replace(item, label=None)) for item in many])
    choice = many.choose_codec(keep="90%")
    assert (choice.measure, choice.queries, choice.gallery) == ("mAP" if labelled else "recall@10", 24, 96)
    sizes = [one.bytes_per_item for one in choice.measured]
    assert sizes == sorted(sizes)
    good = [one for one in choice.measured if one.kept >= 0.9]
    assert choice.chosen is good[0]
    assert "chosen" in str(choice)
    (scalar,) = (one for one in choice.measured if one.name == "scalar:8")
    store, embedder = many.store, many.embedder
    order = np.random.default_rng(0).permutation(120)
    held, rest = order[:24], np.sort(order[24:])
    vectors = store.vectors(list(items(many)))
    decoded = scalar.codec.decode(scalar.codec.encode(vectors[rest]))
    if labelled:
        labels = [int(item.label or 0) for item in many]
        kinds = np.array(labels)
        expected = retrieval.evaluate(
            LabelledVectors(vectors[held], kinds[held]), LabelledVectors(decoded, kinds[rest]), embedder.metric
        ).map
    else:
        both = [
            np.argsort(pairwise(vectors[held], other, embedder.metric))[:, :10] for other in (vectors[rest], decoded)
        ]
        expected = float(np.mean([len({*a} & {*b}) / 10 for a, b in zip(*both, strict=True)]))
    assert scalar.quality == pytest.approx(expected)
    for one in choice.measured:
        alone = parse_codec(one.name, embedder.space).fit(vectors[rest])
        np.testing.assert_array_equal(one.codec.encode(vectors), alone.encode(vectors))
    assert scalar.bytes_per_item == 48 + scalar.codec.size / 120
    many.compress(choice.codec)
    assert many.embedder.codec.name == choice.codec.name
    many.decompress()


def test_a_choice_that_nothing_fits_is_refused(many: Collection, shop: Collection) -> None:
    with pytest.raises(UsageError, match="too few"):
        shop.choose_codec(keep=0.9)
    one, other = (
        MeasuredCodec(name, many.embedder.codec, size, kept, kept)
        for name, size, kept in (("a", 8, 0.5), ("b", 9, 0.9))
    )
    assert pick([one, other], 8, None) is one
    assert pick([one, other], 99, None) is other
    assert pick([one, other], 99, 0.4) is one
    for budget, keep in ((99, 0.95), (8, 0.9)):
        with pytest.raises(UsageError, match="No codec"):
            pick([one, other], budget, keep)
    for wrong in ({}, {"budget": "much"}, {"budget": 0}, {"keep": "120%"}, {"keep": "most"}, {"budget": 0.5}):
        with pytest.raises(UsageError):
            many.choose_codec(**wrong)


def test_codecs_that_take_no_fewer_bytes_than_the_vectors_are_not_measured(
    many: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = many.choose_codec(keep="10%")
    assert all(one.bytes_per_item < choice.base_bytes == 192 for one in choice.measured)
    assert not [one.name for one in choice.measured if "product" in one.name]  # 120 items share 30,145 bytes
    with pytest.raises(UsageError, match="at most 5 bytes"):
        many.choose_codec(budget=5)
    monkeypatch.setattr("lookalike.codec_choice.candidates", lambda _: ["product:8"])
    with pytest.raises(UsageError, match="smaller"):
        many.choose_codec(budget=500)


def test_codecs_that_are_slow_to_fit_are_measured_only_if_they_may_be_chosen(many: Collection) -> None:
    def measured(kept: dict[str, float]) -> dict[str, MeasuredCodec]:
        return {name: MeasuredCodec(name, many.embedder.codec, sizes[name], 1, one) for name, one in kept.items()}

    slow = {f"pca:128:no-centre+product:{parts}": parts + 3.0 for parts in (8, 16, 32, 64)}
    sizes = {"pca:16+scalar:8": 18.0, "pca:128+scalar:8": 132.0} | slow
    assert list(_slow(sizes, 40, None, {})) == ["pca:128:no-centre+product:32"]
    known = measured({"pca:16+scalar:8": 0.9, "pca:128+scalar:8": 1.0})
    found = []
    for name in _slow(sizes, np.inf, 0.99, known):
        found.append(name)
        known |= measured({name: 0.995 if len(found) < 2 else 0.98})
    assert found == [f"pca:128:no-centre+product:{parts}" for parts in (64, 32)]
    assert next(_slow(sizes, np.inf, 0.89, measured({"pca:16+scalar:8": 0.9}))) == "pca:128:no-centre+product:8"
    assert list(_slow(sizes, np.inf, 0.99, measured({"pca:128+scalar:8": 0.97}))) == []


def test_the_command_measures(
    many: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lookalike.codec_choice.candidates", lambda _: ["scalar:8", "pca:8+scalar:8"])
    assert run(monkeypatch, "compress", many.path, "--keep", "80%", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert not facts["compressed"]
    assert len(facts["measured"]) == 2
    page = many.path.parent / "new" / "codecs.html"
    arguments = "compress", many.path, "--budget", "100B", "--report", page
    assert run(monkeypatch, *arguments) == 0  # stdin is no terminal
    shown = capsys.readouterr()
    assert "chosen" in shown.out
    text = page.read_text()
    assert all(word in text for word in ('role="img"', 'aria-label="mAP kept by 2 codecs', "<table>", "held-out"))
    assert str(page) in shown.err
    assert run(monkeypatch, "compress", many.path, "--codec", "pca:4", "--report", page) == 2
    page.write_text("")
    assert run(monkeypatch, "compress", many.path, "--keep", "80%", "--report", page / "x.html") == 1
    assert "--yes" in shown.err
    assert run(monkeypatch, "compress", many.path, "--budget", "100B", "--yes") == 0
    many.refresh()
    assert many.embedder.is_compressed


def test_rescored_answers_are_those_before_compression(
    shop: Collection, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image, item = photos / "a" / "0.png", next(iter(shop)).id
    before = shop.search(image, k=3), shop.search(item=item, k=3), shop.search(image, within=2, limit=4)
    assert before[0].codec is None
    assert shop.search(image, k=3, rescore=True).hits == before[0].hits  # changes nothing without codes
    shop.compress("scalar:2")
    assert shop.search(image, k=3).codec == "scalar of 2 bits"
    assert "by codes of scalar of 2 bits" in str(shop.search(image, k=3))
    after = (
        shop.search(image, k=3, rescore=True, exact=True),
        shop.search(item=item, k=3, rescore=True),
        shop.search(image, within=2, limit=4, rescore=True),
    )
    assert [answer.hits for answer in after] == [answer.hits for answer in before]
    assert {answer.codec for answer in after} == {None}
    assert shop.search(image, expand=2, rescore=True).codec is None
    for arguments in (["-k", "3"], ["--within", "0..2"]):
        capsys.readouterr()
        assert run(monkeypatch, "search", shop.path, image, *arguments, "--rescore", "--json") == 0
        tree = json.loads(capsys.readouterr().out)
        assert (tree["codec"], tree["exact"], tree["hits"][0]["distance"]) == (None, True, before[0][0].distance)
    run(monkeypatch, "search", shop.path, image)
    assert "distances by codes: scalar of 2 bits" in capsys.readouterr().out
    shop.compress("scalar:4", drop_originals=True)
    with pytest.raises(UsageError, match="without its original vectors"):
        shop.search(image, rescore=True)
