"""The public Python API: ``import lookalike as la``."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import lookalike as la
from lookalike import errors
from pictures import write


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_import_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import lookalike; print(*(set(sys.modules) - before))"
    loaded = set(python(code).split())
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names == {"lookalike"}
    assert {name for name in loaded if name.startswith("lookalike")} == {"lookalike"}


def test_every_public_name_is_there() -> None:
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


def test_the_tasks_take_a_line_each(tmp_path: Path, photos: Path, pocket: Path) -> None:
    shop = la.open(tmp_path / "shop", encoder=pocket)
    shop.add(photos, labels="folder")
    cat, horse = photos / "cat" / "1.png", str(photos / "horse" / "1.png")
    assert len(shop.search(cat, k=3)) == 3
    assert shop.search(cat, within="80%")[0].distance == 0
    assert len(list(shop.join(k=1).matches())) > 0
    shop.close()
    assert la.verify(cat, cat, encoder=pocket, within=0.1).same is True
    assert la.verify(cat, horse, encoder=la.load_encoder(pocket)).same is None
    assert la.classify(horse, photos, encoder=pocket).label == "horse"
    support: dict[str, list[Path | str]] = {"cat": [cat], "horse": [horse]}
    assert [ranking.label for ranking in la.classify([horse, cat], support, encoder=pocket)] == ["horse", "cat"]
    assert la.embed(cat, encoder=pocket).shape == (48,)
    assert la.embed([cat, horse], encoder=pocket).shape == (2, 48)
    assert len(list(la.join(tmp_path / "shop", within=0.5).matches())) > 0
