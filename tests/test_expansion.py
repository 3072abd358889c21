"""Query expansion: a search for the midpoint of a query and the mean of its nearest items."""

import json
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

import image_files
from lookalike.cli.app import app
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import UsageError
from lookalike.expansion import expand
from lookalike.metric import Metric, VectorSpace, pairwise
from lookalike.query import Filter, Query
from lookalike.server import create_app
from lookalike.stores import Item, SQLiteStore
from pocket_server import serving


@pytest.fixture
def shop(tmp_path: Path, pocket: Path) -> Iterator[Collection]:
    image_files.write(
        tmp_path / "photos", {f"{label}/{i}.png": 10 * i + len(label) for label in ("cat", "horse") for i in range(5)}
    )
    with Collection.create(tmp_path / "shop.lookalike", Encoder.open(pocket)) as shop:
        shop.add(tmp_path / "photos", labels="folder")
        yield shop


def unit(vectors: np.ndarray) -> np.ndarray:
    out: np.ndarray = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return out


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
@pytest.mark.parametrize("where", [Filter(), Filter(labels=frozenset({"odd"}))])
def test_a_vector_is_the_midpoint_of_the_query_and_the_mean_of_its_nearest(
    tmp_path: Path, metric: Metric, where: Filter
) -> None:
    rng = np.random.default_rng(0)
    stored, queries = rng.normal(size=(20, 6)).astype(np.float32), rng.normal(size=(3, 6)).astype(np.float32)
    with closing(SQLiteStore.create(tmp_path, VectorSpace(metric, 6))) as store:
        store.upsert([Item(f"{i:02}", "", "odd" if i % 2 else "even") for i in range(20)], stored)
        found = expand(store, Query(vectors=queries, expand=4, where=where, metric=metric), (), metric)
    allowed = np.arange(20) if not where else np.arange(1, 20, 2)
    if metric is Metric.COSINE:
        stored, queries = unit(stored), unit(queries)
    for query, vector in zip(queries, found, strict=True):
        nearest = allowed[np.argsort(pairwise(query[None], stored[allowed], metric)[0])[:4]]
        assert np.allclose(vector, (query + stored[nearest].mean(axis=0)) / 2, atol=1e-6)


def test_an_item_is_not_among_its_own_nearest(shop: Collection) -> None:
    first, *others = [item.id for item in shop]
    (vector,) = shop.store.vectors([first])
    rest = shop.store.vectors(others)
    nearest = rest[np.argsort(np.linalg.norm(rest - vector, axis=1))[:2]]
    expected = shop.answer(Query(vectors=(vector + nearest.mean(axis=0))[None] / 2, k=10))[0]
    found = shop.search(item=first, expand=2, k=9)
    assert [hit.item.id for hit in found] == [hit.item.id for hit in expected if hit.item.id != first]


def test_ranges_and_streams_are_of_the_expanded_query(shop: Collection) -> None:
    image = next(iter(shop)).uri
    ranked = shop.search(image, expand=3, k=10)
    within = ranked.hits[4].distance + 1e-6
    assert shop.search(image, expand=3, within=within).hits == ranked.hits[:5]
    query = Query(images=[image], expand=3, within=shop.embedder.distance_range(within))
    assert [hit for part in shop.stream(query) for hit in part] == list(ranked.hits[:5])


def test_hits_of_an_expanded_query_have_no_probability(shop: Collection) -> None:
    image = next(iter(shop)).uri
    answer = shop.search(image, expand=3)
    assert (answer.no_match, answer.calibrated_on) == (None, None)
    assert all(hit.probability is None and hit.closeness is None for hit in answer)


def test_the_command_and_the_server_expand_queries(shop: Collection) -> None:
    item = next(iter(shop))
    expected = [hit.item.id for hit in shop.search(item.uri, expand=3, k=4)]
    command = ["search", str(shop.path), item.uri, "-k", "4", "--expand", "3", "--json"]
    assert [hit["id"] for hit in json.loads(CliRunner().invoke(app, command).stdout)["hits"]] == expected
    with serving(create_app([shop])) as url, httpx.Client(base_url=url) as client:
        files, address = {"image": Path(item.uri).read_bytes()}, "/api/collections/shop/search"
        answer = client.post(address, files=files, data={"k": 4, "expand": 3})
        assert [hit["id"] for hit in answer.json()["hits"]] == expected
        assert client.post(address, files=files, data={"expand": 101}).status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        for field in ("expand", "k"):
            refused = client.post(address, json={"item": item.id, field: True})
            assert refused.json()["detail"] == f"{field}: must be a number, not true or false."


def test_a_false_accept_rate_is_refused(shop: Collection) -> None:
    with pytest.raises(UsageError, match="Leave out far"):
        shop.search(next(iter(shop)).uri, far=0.01, expand=3)
    command = ["search", str(shop.path), next(iter(shop)).uri, "--far", "0.01", "--expand", "3"]
    assert isinstance(CliRunner().invoke(app, command).exception, UsageError)


def test_without_items_the_query_stays(tmp_path: Path) -> None:
    query = np.ones((1, 4), np.float32)
    with closing(SQLiteStore.create(tmp_path, VectorSpace(Metric.EUCLIDEAN, 4))) as store:
        assert (expand(store, Query(vectors=query, expand=5), (), Metric.EUCLIDEAN) == query).all()


def test_bits_are_not_expanded(tmp_path: Path) -> None:
    with (
        closing(SQLiteStore.create(tmp_path, VectorSpace(Metric.HAMMING, 8))) as store,
        pytest.raises(UsageError, match="bits have no mean"),
    ):
        expand(store, Query(vectors=np.zeros((1, 1), np.uint8), expand=5), (), Metric.HAMMING)


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_a_wrong_count_is_refused(count: float) -> None:
    with pytest.raises(UsageError, match="expand must be"):
        Query(vectors=np.zeros((1, 1), np.float32), expand=count)  # type: ignore[arg-type]
