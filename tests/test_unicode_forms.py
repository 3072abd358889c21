"""Names and paths in another Unicode form than the one on the disk."""

import shutil
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import image_files
import lookalike as la
from lookalike.collection import Collection
from lookalike.datasets import infer_source
from lookalike.duplicates import FindOptions
from lookalike.unicode_forms import find_existing, find_names
from test_cli import Shell
from test_cli_index import shell, uris

__all__ = ["shell"]  # a fixture

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_a_name_is_found_in_the_other_form() -> None:
    composed, decomposed = "Mütze", "Mu\u0308tze"
    assert find_names(composed, ["Mutze", decomposed]) == [decomposed]
    assert find_names(decomposed, [composed]) == [composed]
    assert find_names(composed, [decomposed, composed]) == [composed]
    assert find_names("\u01d8", ["u\u0308\u0301", "\u00fc\u0301"]) == ["u\u0308\u0301", "\u00fc\u0301"]
    assert find_names("mütze", [composed]) == find_names("x", []) == []


def test_a_path_is_found_component_by_component(tmp_path: Path) -> None:
    file = tmp_path / DECOMPOSED / "x" / COMPOSED
    file.parent.mkdir(parents=True)
    file.touch()
    for folder in (COMPOSED, DECOMPOSED):
        for name in (COMPOSED, DECOMPOSED):
            assert find_existing(tmp_path / folder / "x" / name) == file
    for none in (tmp_path / COMPOSED / "y", tmp_path / COMPOSED / "x" / COMPOSED / "y", Path("\u00e9\0"), Path()):
        assert find_existing(none) == none


def test_the_exact_path_wins_and_an_ambiguous_one_stays(tmp_path: Path) -> None:
    for name in (COMPOSED, DECOMPOSED, "u\u0308\u0301", "\u00fc\u0301"):
        (tmp_path / name).touch()
        assert find_existing(tmp_path / name) == tmp_path / name
    assert find_existing(tmp_path / "\u01d8") == tmp_path / "\u01d8"
    (tmp_path / COMPOSED).unlink()
    (tmp_path / COMPOSED).symlink_to("nowhere")  # a broken link is there, too
    assert find_existing(tmp_path / COMPOSED) == tmp_path / COMPOSED


@given(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=12))
def test_an_existing_path_is_found_in_all_forms(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    if name in (".", "..") or len(normalize("NFD", name).encode()) > 250:
        return
    folder = tmp_path_factory.mktemp("forms")
    (folder / name).touch()
    for form in ("NFC", "NFD"):
        if normalize(form, name) not in (".", "..") and "/" not in normalize(form, name):
            assert find_existing(folder / normalize(form, name)).samefile(folder / name)
    assert find_existing(folder / name) == folder / name


def test_commands_accept_paths_in_the_other_form(shell: Shell) -> None:
    image_files.write(
        Path.cwd(), {f"{DECOMPOSED}/{DECOMPOSED}.png": 1, f"{DECOMPOSED}/x/b.png": 2, f"{DECOMPOSED}/y/c.png": 3}
    )
    file, name = f"{COMPOSED}/{COMPOSED}.png", f"{COMPOSED}-shop"
    Path(f"{DECOMPOSED}.csv").write_text(f"path,label\n{COMPOSED}.png,cup\n", encoding="utf-8")
    shutil.copytree("pocket", f"{DECOMPOSED}-pocket")
    encoder = ("--encoder", f"{COMPOSED}-pocket")
    index = ("index", COMPOSED, "--to", name, "--labels", f"{COMPOSED}.csv")
    assert "3 embedded" in shell(*index, *encoder).out
    assert {str(Path(uri).parent) for uri in uris(name)} == {DECOMPOSED, f"{DECOMPOSED}/x", f"{DECOMPOSED}/y"}
    Path(f"{name}.lookalike").rename(f"{DECOMPOSED}-shop.lookalike")
    assert "3 unchanged" in shell(*index).out
    for given_name in (name, f"{name}.lookalike"):
        assert shell("info", given_name, "--json").json["items"] == 3
    found = shell("search", name, file, "-k", "1", "--json").json
    assert found["hits"][0]["distance"] == 0
    assert len(shell("search", name, COMPOSED, "--json").json) == 3
    assert shell("verify", file, file, *encoder, "--within", "0.1", "--json").json["distance"] == 0
    assert shell("embed", COMPOSED, file, *encoder, "--out", f"{COMPOSED}.npz").code == 0
    assert len(np.load(f"{COMPOSED}.npz")["paths"]) == 4
    classes = ("classify", file, "--support", COMPOSED, *encoder, "--json")
    assert {each["label"] for each in shell(*classes).json["classes"]} == {"x", "y"}
    assert shell("datasets", "check", COMPOSED).code in (0, 1, 2)
    assert "3 items relocated" in shell("relocate", name, f"{COMPOSED}/../{COMPOSED}", COMPOSED).out
    assert shell("remove", name, f"{COMPOSED}/x/b.png").code == 0
    assert shell("index", f"{COMPOSED}/y", "--to", name, "--relative").code == 0


def test_python_accepts_paths_in_the_other_form(tmp_path: Path, pocket: Path) -> None:
    image_files.write(tmp_path, {f"{DECOMPOSED}/{DECOMPOSED}.png": 1})
    folder = tmp_path / COMPOSED
    file = folder / f"{COMPOSED}.png"
    with la.open(tmp_path / f"{COMPOSED}-shop", encoder=pocket) as shop:
        assert shop.add(folder).embedded == 1
        assert shop.add([file]).unchanged == 1
        assert shop.add(file).unchanged == 1
        assert shop.search(file)[0].distance == 0
        assert shop.verify(file, str(file), within=0.1).same
        assert len(shop.find([str(file)])) == 1
        assert not shop.missing(folder)
        assert not shop.duplicates(within=0.01, options=FindOptions(references=(folder,)))
    assert la.classify(file, {"cup": [file]}, encoder=pocket)[0].label == "cup"
    assert infer_source(folder).path == tmp_path / DECOMPOSED
    (tmp_path / f"{COMPOSED}-shop.lookalike").rename(tmp_path / f"{DECOMPOSED}-shop.lookalike")
    with Collection.open(tmp_path / f"{COMPOSED}-shop") as shop:
        assert len(shop) == 1
    assert la.embed(str(file), encoder=tmp_path / f"{COMPOSED}-shop").shape == (48,)
