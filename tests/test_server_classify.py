"""Classification over HTTP by examples that the request sends: photos, sketches and items (k-way n-shot)."""

import base64
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from lookalike import compare, sample
from lookalike.collection import Collection
from lookalike.evaluation.fewshot import ClassifyBy
from lookalike.server import create_app
from lookalike.server.json_limits import MAX_JSON
from lookalike.server.schemas import MAX_EXAMPLES
from pocket_encoder import calibrated, make
from pocket_server import serving

if TYPE_CHECKING:
    from pathlib import Path

    from lookalike.query import Branch

STROKES = json.dumps({"strokes": [{"points": [[200, 200, 0.5], [800, 200, 0.5], [500, 800, 0.5]]}]}).encode()
Send = Callable[..., dict[str, Any]]
URL = "/api/collections/shop/classify"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A collection behind HTTP, and photos and sketches by class."""
    folder = tmp_path_factory.mktemp("classify")
    sample.write(folder, 30, seed=1)
    calibrated(make(folder / "both"))
    make(folder / "one", ("photo",))
    files: dict[str, dict[str, list[Path]]] = {
        kind: compare.find_examples(folder / kind) for kind in ("photos", "sketches")
    }
    with (
        Collection.create(folder / "shop.lookalike", folder / "both") as shop,
        Collection.create(folder / "plain.lookalike", folder / "one") as plain,
    ):
        shop.add(folder / "photos", labels="folder")
        app = create_app([shop, plain], read_only=True)
        with serving(app) as url, httpx.Client(base_url=url, timeout=20) as client:
            yield SimpleNamespace(client=client, shop=shop, **files)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def as_json(query: tuple[str, bytes], support: list[tuple[str, str, bytes]], **fields: object) -> dict[str, Any]:
    """Return the arguments of a request in JSON; an example is its class, the name of its field and its content."""
    examples = [{"label": label, name: encoded(content)} for label, name, content in support]
    return {"json": {query[0]: encoded(query[1]), "support": examples, **fields}}


def as_form(query: tuple[str, bytes], support: list[tuple[str, str, bytes]], **fields: object) -> dict[str, Any]:
    examples = [{"label": label, name: f"file {i}"} for i, (label, name, _) in enumerate(support)]
    files = {query[0]: query[1], **{f"file {i}": content for i, (_, _, content) in enumerate(support)}}
    return {"files": files, "data": {"support": json.dumps(examples), **fields}}


@pytest.mark.parametrize("send", [as_json, as_form])
@pytest.mark.parametrize(
    ("of_query", "of_support"), [("photos", "photos"), ("photos", "sketches"), ("sketches", "photos")]
)
@pytest.mark.parametrize("by", ["example", "prototype"])
def test_examples_and_queries_are_photos_or_sketches(
    shop: SimpleNamespace, send: Send, of_query: str, of_support: str, by: ClassifyBy
) -> None:
    branches: dict[str, Branch] = {"photos": "photo", "sketches": "sketch"}
    support = {label: paths[:2] for label, paths in sorted(getattr(shop, of_support).items())[:3]}
    query = next(iter(getattr(shop, of_query).values()))[-1]
    expected = compare.classify(
        shop.shop.embedder, [query], support, by=by, branches=(branches[of_query], branches[of_support])
    ).answers[0]
    examples = [(label, path) for label, paths in support.items() for path in paths]

    def field(kind: str) -> str:
        return "sketch" if kind == "sketches" else "image"

    body = send(
        (field(of_query), query.read_bytes()),
        [(label, field(of_support), path.read_bytes()) for label, path in examples],
        by=by,
        k=2,
    )
    answer = shop.client.post(URL, **body).raise_for_status().json()
    assert answer["classes"] == [ranked.to_dict() for ranked in expected[:2]]
    assert (answer["metric"], answer["by"], answer["branch"]) == ("euclidean", by, branches[of_query])
    assert sorted(one["index"] for one in answer["examples"]) == list(range(len(examples)))
    assert [one["label"] for one in answer["examples"]] == [examples[one["index"]][0] for one in answer["examples"]]
    assert {one["branch"] for one in answer["examples"]} == {branches[of_support]}
    distances = [one["distance"] for one in answer["examples"]]
    assert distances == sorted(distances)
    if by == "example":
        assert distances[0] == expected[0].distance


def test_the_image_decides_whether_it_is_a_sketch_and_the_answer_says_so(shop: SimpleNamespace) -> None:
    sketch, photo = (next(iter(kind.values()))[0].read_bytes() for kind in (shop.sketches, shop.photos))
    support = [("a", "image", photo), ("b", "image", sketch)]
    answer = shop.client.post(URL, **as_json(("image", sketch), support)).json()
    assert (answer["branch"], [one["branch"] for one in answer["examples"]]) == ("sketch", ["sketch", "photo"])
    body = as_json(("image", sketch), support, branch="photo")["json"]
    body["support"][1]["branch"] = "photo"
    answer = shop.client.post(URL, json=body).json()
    assert (answer["branch"], [one["branch"] for one in answer["examples"]]) == ("photo", ["photo", "photo"])
    assert answer["classes"][0]["probability"] == 1  # of photos on both sides
    for name, content, branch in (
        ("image", photo, "photo"),
        ("image", sketch, "sketch"),
        ("sketch", STROKES, "sketch"),
    ):
        by_labels = shop.client.post(URL, files={name: content}).json()
        assert (by_labels["branch"], by_labels["examples"]) == (branch, None)
    plain = "/api/collections/plain/classify"
    assert shop.client.post(plain, **as_form(("image", sketch), support)).json()["branch"] == "photo"
    assert shop.client.post(plain, **as_form(("sketch", STROKES), support)).status_code == 422


def test_items_and_drawings_are_queries_and_examples(shop: SimpleNamespace) -> None:
    items = shop.client.get("/api/collections/shop/items?limit=3").json()["items"]
    support: list[dict[str, str]] = [{"label": one["id"], "item": one["id"]} for one in items]
    support.append({"label": "drawn", "sketch": encoded(STROKES)})
    answer = shop.client.post(URL, json={"item": items[1]["id"], "support": support, "metric": "cosine"}).json()
    assert answer["classes"][0]["label"] == items[1]["id"]
    assert answer["examples"][0] == {
        "index": 1,
        "label": items[1]["id"],
        "distance": 0,
        "similarity": 1,
        "branch": None,
    }
    assert (answer["branch"], answer["metric"], len(answer["classes"])) == (None, "cosine", 4)
    assert {one["label"]: one["branch"] for one in answer["examples"]}["drawn"] == "sketch"
    form = {
        "item": items[1]["id"],
        "metric": "cosine",
        "support": json.dumps([*support[:3], {"label": "drawn", "sketch": "s"}]),
    }
    assert shop.client.post(URL, data=form, files={"s": STROKES}).json() == answer


def refused(answer: httpx.Response, field: str) -> bool:
    """Return whether a request is refused for one of its fields, in words."""
    body = answer.json()
    return bool(answer.status_code == 422 and body["errors"][0]["field"] == field and field in body["detail"])


def test_what_is_wrong_with_an_example_is_said(shop: SimpleNamespace) -> None:
    photo = next(iter(shop.photos.values()))[0].read_bytes()
    image = encoded(photo)
    one = {"label": "a", "image": image}
    for bad, field in (
        ([], "support"),
        ([one] * (MAX_EXAMPLES + 1), "support"),
        ([one, {"label": "b"}], "support.1"),
        ([one, {"label": "", "image": image}], "support.1.label"),
        ([one, {**one, "sketch": image}], "support.1"),
        ([one, {"label": "b", "sketch": image, "branch": "photo"}], "support.1"),
        ([one, {"label": "b", "image": encoded(b"text")}], "support.1"),
        ([one, {"label": "b", "item": "gone"}], "support.1"),
    ):
        assert refused(shop.client.post(URL, json={"image": image, "support": bad}), field), field
    assert shop.client.post(URL, json={"item": "gone", "support": [one]}).status_code == 404
    assert refused(shop.client.post(URL, json={"item": "gone"}), "item")
    assert refused(shop.client.post(URL, json={"sketch": image, "branch": "sketch"}), "body")
    assert refused(shop.client.post(URL, files={"sketch": photo}, data={"branch": "photo"}), "branch")

    def form(support: object, **files: bytes) -> httpx.Response:
        answer: httpx.Response = shop.client.post(
            URL, data={"support": json.dumps(support)}, files={"image": photo, **files}
        )
        return answer

    named = {"label": "a", "image": "x"}
    assert form([named], x=photo).status_code == 200
    assert refused(form([named]), "support.0")
    assert refused(form([named], x=b"text"), "support.0")
    unused = form([named], x=photo, y=photo)
    assert unused.status_code == 422
    assert "“y”" in unused.json()["detail"]
    assert refused(shop.client.post(URL, data={"support": "[{]"}, files={"image": photo}), "support")
    many = {f"f{i}": b"" for i in range(MAX_EXAMPLES + 1)}
    assert form([named], **many).status_code == 400


def test_as_many_examples_as_allowed_pass_in_json(shop: SimpleNamespace) -> None:
    image = encoded(next(iter(shop.photos.values()))[0].read_bytes())
    body = {"image": image, "support": [{"label": str(i % 7), "image": image} for i in range(MAX_EXAMPLES)]}
    assert len(image) * MAX_EXAMPLES > MAX_JSON  # images do not count
    answer = shop.client.post(URL, json=body).raise_for_status().json()
    assert len(answer["examples"]) == MAX_EXAMPLES
    assert [one["label"] for one in answer["classes"]] == list("01234")
