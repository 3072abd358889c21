"""Queries that are drawings: recognised by the image, or given as strokes; and sketches as examples of classes."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

import lookalike as la
import pocket_encoder
from lookalike import images, sample, search
from lookalike.cli import main
from lookalike.cli.app import app
from lookalike.collection import Collection
from lookalike.errors import UsageError
from lookalike.metric import Metric
from lookalike.query import Query
from lookalike.server import create_app
from lookalike.stores.settings import IndexKind, IndexSettings
from pocket_server import serving

MUG = {
    "strokes": [
        {"points": [[300, 300, 0.5], [310, 700, 0.5], [590, 700, 0.5], [600, 300, 0.5], [300, 300, 0.5]]},
        {"points": [[600, 400, 0.5], [720, 420, 0.5], [720, 580, 0.5], [598, 600, 0.5]]},
    ]
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos and sketches, and collections of the photos by encoders with and without a sketch branch."""
    folder = tmp_path_factory.mktemp("drawn")
    sample.write(folder, 40, 3)
    for name, branches in (("both", ("photo", "sketch")), ("one", ("photo",))):
        pocket_encoder.make(folder / name, branches)  # type: ignore[arg-type]  # mypy widens the tuples
        with Collection.create(folder / f"{name}.lookalike", folder / name) as shop:
            shop.add(folder / "photos", labels="folder")
    (folder / "mug.json").write_text(json.dumps(MUG), encoding="utf-8")
    return folder


def first(home: Path, kind: str) -> Path:
    return min((home / kind).rglob("*.*g"))


def test_sketches_look_drawn_and_photos_do_not(home: Path) -> None:
    for kind, expected in (("sketches", True), ("photos", False)):
        for path in sorted((home / kind).rglob("*.*g"))[:15]:
            assert images.looks_drawn(path) is expected, path
    assert images.looks_drawn(home / "mug.json")


def test_what_only_resembles_a_drawing_does_not_look_drawn() -> None:
    sheet = Image.new("RGB", (300, 300), "white")
    assert not images.looks_drawn(sheet)
    pen = ImageDraw.Draw(sheet)
    pen.ellipse((50, 50, 250, 250), outline="black", width=4)
    assert images.looks_drawn(sheet)
    both = Image.new("RGB", (300, 300), "grey")  # black and white lines, such as the edges of a relief
    for start, colour in ((50, "black"), (60, "white")):
        ImageDraw.Draw(both).ellipse((start, start, start + 180, start + 180), outline=colour, width=4)
    assert not images.looks_drawn(both)
    pen.rectangle((100, 100, 200, 200), fill="black")  # a silhouette
    assert not images.looks_drawn(sheet)


PAPERS = {
    "pencil": ((246, 246, 246), (110, 110, 110), 0),
    "blue pen": ((250, 250, 250), (25, 50, 170), 0),
    "grey paper": ((180, 180, 180), (40, 40, 40), 10),
    "yellow paper": ((238, 222, 172), (50, 45, 45), 10),
    "chalk": ((30, 45, 40), (235, 235, 228), 4),
}


def draw_again(sketch: Image.Image, paper: Sequence[float], ink: Sequence[float], light: float) -> Image.Image:
    """Draw a sketch in black on white on other paper, which is lighter on one side."""
    cover = 1 - np.asarray(sketch.convert("L"))[..., None] / 255
    slope = np.linspace(-light, light, sketch.width)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 2, cover.shape)
    return Image.fromarray(np.uint8(np.clip(paper + (np.array(ink) - paper) * cover + slope + noise, 0, 255)))


@pytest.mark.parametrize("name", PAPERS)
def test_drawings_in_other_ink_and_on_other_paper_are_cleaned(name: str) -> None:
    (product,) = sample.catalogue(1, 5)
    sketch = product.sketch()
    again = draw_again(sketch, *PAPERS[name])
    assert images.looks_drawn(again)
    difference = np.abs(np.asarray(images.clean_sketch(again), np.int16) - np.asarray(sketch.convert("RGB")))
    assert difference.mean() < 3
    assert np.abs(np.asarray(again, np.int16) - np.asarray(sketch.convert("RGB"))).mean() > 2 * difference.mean()


def test_black_on_white_and_photos_are_not_cleaned(home: Path) -> None:
    for image in (images.open_image(first(home, kind)) for kind in ("sketches", "photos")):
        assert images.clean_sketch(image) is image


@pytest.mark.parametrize(
    "strokes",
    [[], [{"points": [[500, 500, 1]], "size": 9}], [{"points": [[100, 100, 1], [900, 900, 1]], "size": 200}]],
    ids=["blank", "dot", "thick"],
)
def test_strokes_are_a_drawing_whatever_they_show(strokes: list[dict[str, object]]) -> None:
    assert images.looks_drawn(json.dumps({"strokes": strokes}).encode())


@pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.COSINE])
def test_the_image_decides_whether_a_query_is_a_sketch_and_the_answer_says_so(home: Path, metric: Metric) -> None:
    sketch, photo = first(home, "sketches"), first(home, "photos")
    with Collection.open(home / "both") as shop:
        decided = shop.search(sketch, metric=metric)
        assert decided.branch == "sketch"
        assert decided.hits == shop.search(sketch, metric=metric, sketch=True).hits
        assert shop.search(sketch, metric=metric, sketch=False).branch == "photo"
        assert shop.search(photo, metric=metric).branch == "photo"
        both = shop.search([sketch, photo], metric=metric)
        assert [answer.branch for answer in both] == ["sketch", "photo"]
        assert both[0].hits == decided.hits
        with pytest.raises(UsageError, match="looks like a sketch"):
            shop.search(sketch, metric=metric, far=0.01)
        with pytest.raises(UsageError, match="measured on pairs of photos"):
            shop.search(sketch, metric=metric, far=0.01, sketch=True)
        assert shop.search(home / "mug.json", metric=metric).to_dict()["branch"] == "sketch"
        assert shop.search(item=decided[0].item.id).branch is None
        (part,) = shop.stream(Query(images=[sketch], within=la.query.DistanceRange(0, 99), branch="auto"))
        assert part.branch == "sketch"
    with Collection.open(home / "one") as plain:
        assert plain.search(sketch, metric=metric).branch == "photo"


# ---- every metric and index

KINDS: list[tuple[Metric, IndexKind]] = [
    (Metric.EUCLIDEAN, "none"),
    (Metric.COSINE, "none"),
    (Metric.HAMMING, "none"),
    (Metric.EUCLIDEAN, "hnsw"),
    (Metric.COSINE, "ivf-pq"),
]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def large(request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A collection of photos and 1,000 other vectors, whose index answers if it has one."""
    metric, index = request.param
    folder = tmp_path_factory.mktemp("large")
    encoder = shutil.copytree(home / "both", folder / "encoder")
    if metric is Metric.HAMMING:
        card = json.loads((encoder / "encoder.json").read_text())
        card |= {"output": "bits", "metric": "hamming", "input": card["input"] | {"mean": [0.5] * 3}}
        (encoder / "encoder.json").write_text(json.dumps(card))
    with Collection.create(folder / "large", encoder, metric) as shop:
        shop.add(home / "photos", labels="folder")
        space, rng = shop.store.space, np.random.default_rng(0)
        others = np.abs(rng.standard_normal((1_000, space.dimension)))
        vectors = (others / np.linalg.norm(others, axis=1, keepdims=True)).astype(np.float32)
        if metric is Metric.HAMMING:
            vectors = np.packbits(others > np.median(others), axis=1)
        item = next(iter(shop))
        shop.store.upsert([replace(item, id=f"other{i}", label="other") for i in range(1_000)], vectors)
        if index != "none":
            shop.tune(IndexSettings(budget=0, index=index))
            assert shop.build_index()
        yield shop


@pytest.mark.parametrize("label", [None, "mug"])
def test_a_sketch_finds_the_nearest_items_by_every_metric_and_index(
    large: Collection,
    home: Path,
    label: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = home / "mug.json"
    answer = large.search(path, sketch=True, k=5, label=label)
    assert answer.branch == "sketch"
    status = large.status()
    assert status is not None
    assert answer.exact is (status.index is None or label is not None)  # of few rows a search is exact
    items = [item for item in large if label in (None, item.label)]
    (vector,) = large.embedder.embed([path], "sketch")
    vectors = large.store.vectors([item.id for item in items])
    hits = search.knn(vector[None], vectors, len(items), large.metric)
    true = {items[row].id: distance for row, distance in zip(hits.rows.tolist(), hits.distances.tolist(), strict=True)}
    assert len(answer) == min(5, len(items))
    assert [hit.distance for hit in answer] == pytest.approx([true[hit.item.id] for hit in answer], abs=1e-5)
    if answer.exact:
        assert [hit.distance for hit in answer] == pytest.approx(sorted(true.values())[:5], abs=1e-5)

    expected = [(hit.item.id, pytest.approx(hit.distance, abs=1e-5)) for hit in answer]
    command = ["lookalike", "search", str(large.path), str(path), "--sketch", "-k", "5", "--json"]
    monkeypatch.setattr(sys, "argv", command + (["--label", label] if label else []))
    with pytest.raises(SystemExit):
        main()
    printed = json.loads(capsys.readouterr().out)
    body = {"sketch": base64.b64encode(path.read_bytes()).decode(), "k": 5}
    body |= {"filter": {"labels": [label]}} if label else {}
    with serving(create_app([large])) as url:
        sent = httpx.post(f"{url}/api/collections/large/search", json=body).json()
    for tree in (printed, sent):
        assert [(hit["id"], hit["distance"]) for hit in tree["hits"]] == expected
        assert (tree["branch"], tree["exact"], tree["metric"]) == ("sketch", answer.exact, large.metric)


@pytest.mark.parametrize("codec", ["pca:8+scalar:int8", "binary:32"])
def test_a_sketch_searches_a_compressed_collection(home: Path, tmp_path: Path, codec: str) -> None:
    shutil.copytree(home / "both.lookalike", tmp_path / "small.lookalike")
    with Collection.open(tmp_path / "small") as shop:
        shop.compress(codec)
        assert shop.embedder.is_compressed
        answer = shop.search(home / "mug.json", k=5)
        assert answer.branch == "sketch"
        (vector,) = shop.embedder.embed([home / "mug.json"], "sketch")
        ids = [item.id for item in shop]
        hits = search.knn(vector[None], shop.store.vectors(ids), 5, shop.metric)
        assert [hit.distance for hit in answer] == pytest.approx(hits.distances.tolist(), abs=1e-5)


# ---- the command line, and classes


def test_a_blank_image_is_said_to_be_blank(home: Path, tmp_path: Path) -> None:
    Image.new("RGB", (80, 60), (200, 10, 90)).save(tmp_path / "red.jpg")
    (tmp_path / "empty.json").write_text('{"strokes": []}', encoding="utf-8")
    with Collection.open(home / "both") as shop:
        found = [shop.search(tmp_path / name) for name in ("red.jpg", "empty.json")]
        assert [(one.blank, "blank" in str(one)) for one in found] == [(True, True), (True, True)]
        assert shop.search(first(home, "photos")).blank is False
        assert shop.search(item=next(iter(shop)).id).blank is None
    for arguments in ([str(tmp_path / "red.jpg")], [str(tmp_path), "--within", "9"], [str(tmp_path)]):
        assert "The image is blank" in CliRunner().invoke(app, ["search", str(home / "both"), *arguments]).stdout


def test_the_command_line_decides_each_image_of_a_folder(home: Path, tmp_path: Path) -> None:
    for kind in ("sketches", "photos"):
        shutil.copy(first(home, kind), tmp_path / f"{kind}.png")
    done = CliRunner().invoke(app, ["search", str(home / "both"), str(tmp_path), "--json"])
    assert "Searching for 1 of 2 images as sketches" in done.stderr
    assert [tree["branch"] for tree in json.loads(done.stdout)] == ["photo", "sketch"]
    far = CliRunner().invoke(app, ["search", str(home / "both"), str(home / "mug.json"), "--far", "0.01"])
    assert "looks like a sketch" in str(far.exception)


def test_the_command_line_says_how_to_search_by_a_drawing_that_it_does_not_take(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mug.json").write_text(json.dumps(MUG), encoding="utf-8")
    missed = CliRunner().invoke(app, ["search", str(home / "both"), str(tmp_path)])
    assert "add --sketch" in str(missed.exception)
    answer = Collection.answer
    monkeypatch.setattr(Collection, "answer", lambda *given: [replace(one, no_match=True) for one in answer(*given)])
    photo, hint = str(first(home, "photos")), "If it is a drawing, add --sketch"
    for name, options, hinted in (("both", [], True), ("both", ["--photo"], False), ("one", [], False)):
        assert (hint in CliRunner().invoke(app, ["search", str(home / name), photo, *options]).stderr) is hinted


@pytest.mark.slow
def test_the_command_line_takes_strokes_and_says_how_it_searches(home: Path) -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "lookalike", "search", "both", *arguments]
        return subprocess.run(command, cwd=home, capture_output=True, text=True, check=True)

    decided = run("mug.json", "--json")
    assert "Searching as a sketch, since the file holds the strokes" in decided.stderr
    given = run("mug.json", "--sketch", "--json")
    assert given.stderr == ""
    assert json.loads(given.stdout) == json.loads(decided.stdout)
    assert json.loads(given.stdout)["branch"] == "sketch"
    (home / "queries").mkdir()
    (home / "queries" / "a.json").write_text((home / "mug.json").read_text())
    (home / "queries" / "bad.json").write_text('{"strokes": 3}')
    one, bad = json.loads(run("queries", "--sketch", "--json").stdout)
    assert one["hits"] == json.loads(given.stdout)["hits"]
    assert "not a drawing" in bad["error"]


@pytest.mark.slow
def test_sketches_are_the_examples_or_the_queries_of_a_classification(home: Path, tmp_path: Path) -> None:
    of = sample.catalogue(400, 77)
    for label in ("mug", "chair", "guitar"):
        products = [product for product in of if product.label == label][:3]
        for kind in ("sketches", "photos"):
            (tmp_path / kind / label).mkdir(parents=True)
            for i, product in enumerate(products):
                image = product.sketch() if kind == "sketches" else product.photo(160)
                image.save(tmp_path / kind / label / f"{i}.png")
    for support, queries in (("photos", "sketches"), ("sketches", "photos")):
        paths = sorted((tmp_path / queries).rglob("*.png"))
        drawn = {"sketch": queries == "sketches", "sketched_support": support == "sketches"}
        rankings = la.classify(paths, tmp_path / support, encoder="toyshop", by="prototype", **drawn)
        right = [one.label == path.parent.name for one, path in zip(rankings, paths, strict=True)]
        assert np.mean(right) >= 0.85, support
    (tmp_path / "sketches" / "mug" / "mug.json").write_text(json.dumps(MUG))
    command = ["classify", str(first(home, "photos")), "--support", str(tmp_path / "sketches"), "--sketched-support"]
    done = subprocess.run(
        [sys.executable, "-m", "lookalike", *command, "--encoder", "toyshop", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(json.loads(done.stdout)["classes"]) == 3
    with pytest.raises(UsageError, match="sketch"):
        la.classify(first(home, "photos"), home / "photos", encoder=home / "one", sketched_support=True)
