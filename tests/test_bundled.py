"""The encoders that ship with lookalike, on pictures that they have not seen."""

import base64
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import httpx
import numpy as np
import pytest
import zstandard

import pocket_server
from lookalike import encoders, sample
from lookalike.collection import Collection
from lookalike.evaluation import retrieval
from lookalike.learn import recipe
from lookalike.server import create_app

BUNDLED = sorted(encoders.bundled())

# Real data lies beside the project, never in it; continuous integration has it.
DATA = Path(os.environ.get("LOOKALIKE_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))

R1_BEST = 0.8749


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_encoder_has_a_card_that_says_where_it_comes_from_and_is_small(name: str) -> None:
    encoder = encoders.load(name)
    assert encoder.card.name == name
    assert encoder.card.provenance is not None
    assert encoder.card.provenance.figures
    assert recipe.Recipe.model_validate(encoder.card.provenance.recipe).name == name
    assert (encoder.folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")
    assert sum((encoder.folder / file).stat().st_size for file in encoder.files) < 12e6


def test_the_toy_shops_encoder_finds_classes_and_drawn_products_among_unseen_ones() -> None:
    encoder = encoders.load("toyshop")
    products = sample.catalogue(320, 4242)
    size = encoder.card.input.size
    photos = encoder.embed(np.stack([np.asarray(p.photo(size)) for p in products]))
    sketches = encoder.embed(np.stack([np.asarray(p.sketch(0, size)) for p in products]), "sketch")
    labels = np.asarray([sample.CLASSES.index(p.label) for p in products])
    metric = encoder.card.metric
    assert retrieval.top_1(photos, labels, metric) > 0.97
    same = labels[:, None] == labels
    assert retrieval.hit_rates(sketches, photos, same, (1,), metric)[1] > 0.95
    assert retrieval.hit_rates(sketches, photos, np.eye(320, dtype=bool), (10,), metric)[10] > 0.8


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 10,000 test pictures of CIFAR-10, indexed by the command line."""
    archive = DATA / "cifar10.tar.zst"
    if not archive.exists():
        pytest.skip(f"no {archive}; LOOKALIKE_DATA says where the data lie")
    folder = tmp_path_factory.mktemp("cifar10")
    with (
        archive.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        tar.extractall(folder, (m for m in tar if m.name.lstrip("./").startswith("test")), filter="data")
    command = [sys.executable, "-m", "lookalike", "index", str(folder / "test")]
    command += [
        "--to",
        str(folder / "cifar10.lookalike"),
        "--encoder",
        "cifar10-triplet",
        "--labels",
        "folder",
        "--json",
    ]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert (told["items"], told["failed"]) == (10_000, [])
    return folder


def test_top_1_on_cifar10_is_better_than_r1(cifar10: Path) -> None:
    with Collection.open(cifar10 / "cifar10.lookalike") as collection:
        _, labels = np.unique([str(item.label) for item in collection.store.scan()], return_inverse=True)
        top_1 = retrieval.top_1(collection.store.snapshot().vectors, labels.astype(np.int64), collection.store.metric)
    assert top_1 > R1_BEST


def test_each_of_100_pictures_comes_back_first_over_http_at_distance_zero(cifar10: Path) -> None:
    rng = np.random.default_rng(0)
    files = rng.choice(np.asarray(sorted((cifar10 / "test").rglob("*.jpg")), dtype=object), 100, replace=False)
    with (
        Collection.open(cifar10 / "cifar10.lookalike") as collection,
        pocket_server.serving(create_app([collection])) as url,
    ):
        for file in files:
            answer = httpx.post(f"{url}/search", content=base64.b64encode(file.read_bytes()))
            results = answer.json()["results"]
            distances = list(results.values())
            assert len(distances) == 10
            assert distances == sorted(distances)
            assert round(distances[0], 2) == 0
            assert httpx.get(next(iter(results))).content == file.read_bytes()
            assert str(cifar10) not in answer.text
            assert file.name not in answer.text
