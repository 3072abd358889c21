"""Every use of a collection works on codes: sketches, texts, joins, duplicates, classes, moves and the server."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

import lookalike as la
import pocket_encoder
from image_files import png
from lookalike import search
from lookalike.cli import main
from lookalike.collection import Collection
from lookalike.metric import pairwise
from lookalike.server import create_app
from pocket_server import serving

COUNT = 12


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of images, two of which have the same pixels, with its images beside it."""
    home = tmp_path_factory.mktemp("home")
    encoder = pocket_encoder.calibrated(pocket_encoder.make(home / "reader", ("photo", "sketch", "text")))
    for i in range(COUNT):
        path = home / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    shutil.copyfile(home / "images" / "a" / "0.png", home / "images" / "b" / "copy.png")
    with Collection.create(home / "shop", encoder) as shop:
        shop.add(home / "images", labels="folder")
    return home


@pytest.fixture(params=["binary:32:sign", "pca:8+rabitq:2"])
def shop(request: pytest.FixtureRequest, plain: Path, tmp_path: Path) -> Iterator[Collection]:
    """The collection in codes, beside its images, in a folder of the test."""
    shutil.copytree(plain, tmp_path / "home")
    with Collection.open(tmp_path / "home" / "shop") as collection:
        collection.relocate(plain / "images", tmp_path / "home" / "images")
        collection.compress(request.param)
        yield collection


def decoded(shop: Collection) -> tuple[list[str], np.ndarray]:
    ids = [item.id for item in shop]
    return ids, shop.store.vectors(ids)


def nearest(shop: Collection, query: np.ndarray) -> list[float]:
    return [float(d) for d in search.knn(query, decoded(shop)[1], 3, shop.metric).distances]


def test_sketches_texts_and_images_search_the_vectors_of_the_codes(shop: Collection) -> None:
    sketch, codec = png(30), shop.embedder.codec
    for drawn in (False, True):
        vectors = la.embed([sketch], encoder=shop.path, sketch=drawn)
        assert [hit.distance for hit in shop.search(sketch, k=3, sketch=drawn)] == nearest(shop, codec.project(vectors))
    text = shop.embedder.encoder.embed_texts(["red"])
    assert [hit.distance for hit in shop.search(text="red", k=3)] == nearest(shop, codec.project(text))


def test_joins_have_the_distances_of_the_codes(shop: Collection, tmp_path: Path) -> None:
    ids, vectors = decoded(shop)
    whole = pairwise(vectors, vectors, shop.metric).astype(np.float32)
    shop.join(within=float(whole.max())).write(tmp_path / "pairs.csv")
    with (tmp_path / "pairs.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == len(ids) * (len(ids) - 1) // 2
    paths = [str(shop.folder.file(item)) for item in shop]
    for pair in pairs:
        assert np.float32(pair["distance"]) == whole[paths.index(pair["left"]), paths.index(pair["right"])]


def test_duplicates_classes_and_verification(shop: Collection, tmp_path: Path) -> None:
    images = tmp_path / "home" / "images"
    vectors = decoded(shop)[1]
    groups = shop.duplicates(within=float(pairwise(vectors, vectors, shop.metric).max()))
    (group,) = (group for group in groups.groups if str(group.tier) == "identical")
    assert {member.path.name for member in group.members} == {"0.png", "copy.png"}
    assert shop.classify(images / "a" / "2.png", k=1)[0].label == "a"
    verdict = shop.verify(images / "a" / "0.png", images / "b" / "copy.png")
    assert verdict.metric == shop.metric


def test_items_are_removed_added_and_moved(shop: Collection, tmp_path: Path) -> None:
    images, codec = tmp_path / "home" / "images", shop.embedder.codec
    (images / "b" / "copy.png").unlink()
    assert shop.prune(images)[0] == 1
    (images / "a" / "new.png").write_bytes(png(40))
    assert shop.add(images, labels="folder").embedded == 1
    images.rename(tmp_path / "moved")
    shop.relocate(images, tmp_path / "moved")
    listed = list(shop)
    raw = la.embed([shop.folder.file(item) for item in listed], encoder=shop.path)
    np.testing.assert_array_equal(decoded(shop)[1], codec.decode(codec.encode(raw)))
    moved = Path(shutil.move(shop.path, tmp_path / "elsewhere.lookalike"))
    with Collection.open(moved) as opened:
        assert opened.embedder.codec_id == shop.embedder.codec_id
        assert len(opened.search(png(3), k=COUNT)) == COUNT


def test_the_server_answers_by_the_codes(shop: Collection) -> None:
    app = create_app([shop], read_only=True)
    with serving(app) as url, httpx.Client(base_url=url) as client:
        assert "<html" in client.get("/").text
        (described,) = client.get("/api/collections").json()["collections"]
        assert described["codec"] == shop.embedder.codec.name
        item = next(iter(shop))
        answer = client.post("/api/collections/shop/search", json={"item": item.id, "k": 3}).json()
        assert [hit["distance"] for hit in answer["hits"]] == [hit.distance for hit in shop.search(item=item.id, k=3)]


def test_a_collection_of_the_first_format_is_compressed(tmp_path: Path) -> None:
    path = Path(shutil.copytree(Path(__file__).parent / "stored" / "collection-v1", tmp_path / "old.lookalike"))
    with Collection.open(path) as old:
        before = decoded(old)[1]
        old.compress("scalar:float16")
        assert np.abs(decoded(old)[1] - before).max() < 0.01
        old.decompress()
        np.testing.assert_array_equal(decoded(old)[1], before)


@pytest.mark.parametrize("command", ["join", "duplicates"])
def test_answers_of_commands_name_the_codec(
    command: str, shop: Collection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    extra = ["-k", "1", "--out", str(tmp_path / "pairs.csv")] if command == "join" else ["--within", "0.01"]
    name = [str(shop.path)] if command == "join" else ["find", str(shop.path)]
    monkeypatch.setattr("sys.argv", ["lookalike", command, *name, *extra, "--json"])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(capsys.readouterr().out)["codec"] == str(shop.embedder.codec)
