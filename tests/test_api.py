"""The public Python API: ``import lookalike as la``."""

import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lookalike as la
from image_files import write
from lookalike import errors, sample
from lookalike.search_options import SearchOptions
from pocket_encoder import calibrated

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs"))

import python_reference  # noqa: E402


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_import_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import lookalike; print(*(set(sys.modules) - before))"
    loaded = set(python(code).split())
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names == {"lookalike"}
    assert {name for name in loaded if name.startswith("lookalike")} == {"lookalike", "lookalike.version"}


def test_every_public_name_has_a_docstring() -> None:
    for name in la.__all__:
        assert inspect.getdoc(getattr(la, name)), name
        assert name in dir(la)
    tree = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert tree <= set(la.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        la.no_such_name  # noqa: B018 -- looked up only


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    names = {f"{label}/{i}.png": 10 * i + len(label) for label in ("cat", "horse") for i in range(4)}
    write(tmp_path / "photos", names)
    return tmp_path / "photos"


def test_each_task_takes_one_call(tmp_path: Path, photos: Path, pocket: Path) -> None:
    shop = la.open(tmp_path / "shop", encoder=pocket)
    shop.add(photos, labels="folder")
    cat, horse = photos / "cat" / "1.png", str(photos / "horse" / "1.png")
    assert len(shop.search(cat, k=3)) == 3
    assert shop.search(cat, within="80%")[0].distance == 0
    assert len(list(shop.join(k=1))) > 0
    shop.close()
    assert la.verify(cat, cat, encoder=pocket, within=0.1).same is True
    assert la.verify(cat, horse, encoder=la.load_encoder(pocket)).same is None
    assert la.classify(horse, photos, encoder=pocket).label == "horse"
    support: dict[str, list[Path | str]] = {"cat": [cat], "horse": [horse]}
    assert [ranking.label for ranking in la.classify([horse, cat], support, encoder=pocket)] == ["horse", "cat"]
    assert la.embed(cat, encoder=pocket).shape == (48,)
    assert la.embed([cat, horse], encoder=pocket).shape == (2, 48)
    assert len(list(la.join(tmp_path / "shop", k=1))) > 0


WRONG = (None, -1, 1.5, True, "\0", "\ud800", "a" * 5000, b"\xff", [None], {1: 2}, object(), np.zeros((2, 3)))
"""Values that few parameters take."""


@pytest.mark.filterwarnings("error")
def test_wrong_values_raise_errors_of_lookalike(tmp_path: Path, photos: Path, pocket: Path) -> None:
    shop = la.open(tmp_path / "shop", encoder=pocket)
    shop.add(photos, labels="folder")
    cat, new = photos / "cat" / "1.png", tmp_path / "new"
    rated = calibrated(shutil.copytree(pocket, tmp_path / "rated"))
    calls: list[Any] = [
        la.load_encoder,
        la.open,
        lambda wrong: la.open(shop.path, metric=wrong),
        lambda wrong: la.embed(cat, encoder=pocket, sketch=wrong),
        lambda wrong: la.verify(cat, cat, encoder=pocket, within=wrong),
        lambda wrong: la.verify(cat, cat, encoder=rated, far=wrong),
        lambda wrong: la.classify(cat, wrong, encoder=pocket),
        lambda wrong: la.classify(cat, {"cat": wrong}, encoder=pocket),
        lambda wrong: la.classify(cat, photos, encoder=pocket, by=wrong),
        lambda wrong: la.join(shop, wrong, k=1),
        lambda wrong: la.join(shop, k=wrong),
        lambda wrong: la.evaluate(pocket, wrong),
        lambda wrong: la.evaluate(pocket, photos, wrong),
        lambda wrong: la.calibrate(pocket, wrong, to=new),
        lambda wrong: la.calibrate(la.load_encoder("toyshop"), photos, to=wrong),
        shop.add,
        lambda wrong: shop.add(photos, labels=wrong),
        lambda wrong: shop.add([cat], labels=wrong),
        shop.add_image,
        lambda wrong: shop.add_image(cat, label=wrong),
        lambda wrong: shop.add_image(cat, attributes=wrong),
        shop.remove,
        shop.get,
        shop.missing,
        shop.measure_latency,
        lambda wrong: shop.search(item=wrong),
        *(lambda wrong, name=name: shop.search(cat, **{name: wrong}) for name in SearchOptions.__annotations__),
        lambda wrong: shop.search(cat, label=[wrong]),
        lambda wrong: shop.search(cat, where={"colour": wrong}),
        lambda wrong: shop.classify(cat, k=wrong),
        lambda wrong: shop.classify(cat, by=wrong),
        lambda wrong: shop.duplicates(within=0.1, options=wrong),
        lambda wrong: shop.join(k=1).write(wrong),
    ]
    for call in calls:
        for wrong in WRONG:
            with suppress(la.LookalikeError):
                call(wrong)
    with pytest.raises(la.UsageError, match="prototype"):
        shop.classify(cat, by="mean")  # type: ignore[call-overload]


def test_a_collection_is_an_encoder_and_a_support_set_by_its_name(tmp_path: Path, photos: Path, pocket: Path) -> None:
    with la.open(tmp_path / "shop", encoder=pocket) as shop:
        shop.add(photos, labels="folder")
        assert sorted(item.label or "" for item in shop) == 4 * ["cat"] + 4 * ["horse"]
        assert repr(shop.search(photos / "cat" / "1.png", k=3)) == "<Answer: 3 hits, nearest at 0.00 (euclidean)>"
    cat = photos / "cat" / "1.png"
    assert la.load_encoder(tmp_path / "shop").card.name == "pocket"
    assert la.embed(cat, encoder=tmp_path / "shop").shape == (48,)
    assert la.classify(cat, photos, encoder=str(tmp_path / "shop")).label == "cat"
    assert la.evaluate(tmp_path / "shop", photos).retrieval is not None
    result = la.calibrate(tmp_path / "shop")  # on its own labels
    assert result.calibration.genuine == 12
    with la.open(tmp_path / "shop") as shop:
        assert shop.verify(cat, cat).same is True
    with la.open(tmp_path / "bare", encoder=pocket) as bare:
        bare.add(photos)
    with pytest.raises(la.UsageError, match="has a label"):
        la.calibrate(tmp_path / "bare")


# ---- examples and documentation

TINY = """
name: tiny
data: {sources: [{kind: toyshop, count: 96, seed: 5}], validation: 0.34, size: 16}
network: {backbone: cnn, dimension: 8}
losses: [{kind: triplet, margin: 0.2}]
sampler: {classes: 8, items: 2}
optimiser: {learning_rate: 0.01}
schedule: {kind: constant}
train: {epochs: 5}
"""


@pytest.fixture(scope="session")
def toy_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples of docstrings use."""
    folder = tmp_path_factory.mktemp("toy")
    sample.write(folder, 64, 0)
    mugs = [product for product in sample.catalogue(64, 1) if product.label == "mug"]
    mugs[0].photo().save(folder / "mug.jpg")
    mugs[1].photo().save(folder / "other.jpg")
    mugs[0].sketch().save(folder / "sketch.png")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    with la.open(folder / "shop", encoder="toyshop") as shop:
        shop.add(folder / "photos", labels="folder")
    return folder


@pytest.fixture
def in_toy_shop(toy_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(toy_shop, tmp_path / "toy")
    monkeypatch.chdir(tmp_path / "toy")
    # The items have the paths of the folder that was copied.
    with la.open("shop") as shop:
        shop.remove([item.id for item in shop.store.scan()])
        shop.add("photos", labels="folder")


EXAMPLES = {
    name: doc for name, thing in python_reference.public_objects() if ">>>" in (doc := inspect.getdoc(thing) or "")
}


def test_every_public_name_has_an_example() -> None:
    assert {f"la.{name}" for name in la.__all__} <= EXAMPLES.keys()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # examples leave closing to the garbage collector
@pytest.mark.usefixtures("in_toy_shop")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith("la.train") else ()) for name in EXAMPLES]
)
def test_an_example_of_the_documentation_runs(name: str) -> None:
    names = {"la": la, "Path": Path, "Image": Image}
    test = doctest.DocTestParser().get_doctest(EXAMPLES[name], names, name, None, 0)
    assert test.examples
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=flags).run(test, out=failures.append)
    assert not failures, "".join(failures)


def test_the_reference_is_up_to_date() -> None:
    assert python_reference.PAGE.read_text(encoding="utf-8") == python_reference.page()


def test_the_reference_is_complete() -> None:
    text = python_reference.PAGE.read_text(encoding="utf-8")
    for name, thing in python_reference.public_objects():
        if not name.startswith("Collection") or inspect.isroutine(thing):
            assert f"`{name}`" in text, name


SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def test_there_is_an_example_for_each_task() -> None:
    assert [path.stem for path in SCRIPTS] == ["classify", "find_duplicates", "join", "nearest", "verify", "within"]
    listed = re.findall(r"examples/(\w+)\.py", (ROOT / "examples" / "README.md").read_text(encoding="utf-8"))
    assert sorted(set(listed)) == [path.stem for path in SCRIPTS]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_script_runs(script: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(la.__file__).parent.parent)}
    run = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
    assert list(tmp_path.iterdir()) == []  # it leaves no files
