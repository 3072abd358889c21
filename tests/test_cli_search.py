"""`search` for folders of images, its files of results, `list`, and names that are hostile to terminals."""

import csv
import json
import os
import pty
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pocket_encoder
from lookalike import sample
from lookalike.collection import Collection


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, and with a collection of them, where labels are in the decomposed Unicode form."""
    folder = tmp_path_factory.mktemp("indexed")
    sample.write(folder, 40, 0)
    pocket_encoder.make(folder / "pocket")
    with Collection.create(folder / "shop", folder / "pocket") as shop:
        shop.add(folder / "photos", labels="folder")
        for item in list(shop.store.scan()):
            if item.label == "mug":
                shop.store.upsert([replace(item, label="Mu\u0308tze")], shop.store.vectors([item.id]))
    return folder


@pytest.fixture
def home(indexed: Path, tmp_path: Path) -> Path:
    for name in ("photos", "shop.lookalike"):
        shutil.copytree(indexed / name, tmp_path / name)
    return tmp_path


def run(home: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "lookalike", *arguments],
        cwd=home,
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
        timeout=120,
    )


def in_a_terminal(home: Path, *arguments: str) -> str:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lookalike", *arguments], cwd=home, stdout=terminal, stderr=terminal, stdin=terminal
    )
    os.close(terminal)
    parts = []
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(controller)
    process.wait()
    return b"".join(parts).decode()


def test_a_folder_of_queries_is_searched_and_failures_are_named(home: Path) -> None:
    queries = home / "queries"
    (queries / "deep").mkdir(parents=True)
    photos = sorted((home / "photos").rglob("*.jpg"))
    shutil.copy(photos[0], queries / "b.jpg")
    shutil.copy(photos[9], queries / "deep" / "c.jpg")
    (queries / "a.jpg").write_text("not an image")
    done = run(home, "search", "shop", "queries", "-k", "2")
    assert done.returncode == 0
    out = done.stdout.decode()
    assert [line for line in out.splitlines() if line.startswith("queries")] == [
        "queries/a.jpg",
        "queries/b.jpg",
        "queries/deep/c.jpg",
    ]
    assert "Not searched: 'queries/a.jpg' is not an image" in out
    assert "1 of 3 images" in done.stderr.decode()
    answers = json.loads(run(home, "search", "shop", "queries", "-k", "2", "--json").stdout)
    assert [answer["query"] for answer in answers] == ["queries/a.jpg", "queries/b.jpg", "queries/deep/c.jpg"]
    assert answers[0].keys() == {"query", "error"}
    for answer, photo in zip(answers[1:], (photos[0], photos[9]), strict=True):
        assert answer["hits"][0]["distance"] == pytest.approx(0, abs=1e-6)
        assert answer["hits"][0]["name"] == photo.name
        assert answer["hits"][0]["missing"] is False
    alone = json.loads(run(home, "search", "shop", "queries/b.jpg", "-k", "2", "--json").stdout)
    assert alone["query"] == "queries/b.jpg"
    assert [hit["id"] for hit in alone["hits"]] == [hit["id"] for hit in answers[1]["hits"]]
    (queries / "b.jpg").unlink()
    shutil.rmtree(queries / "deep")
    failed = run(home, "search", "shop", "queries", "--json")
    assert (failed.returncode, len(json.loads(failed.stdout))) == (1, 1)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "html"])
def test_results_are_written_to_files(home: Path, suffix: str) -> None:
    (home / "photos" / "zz <script>.jpg").write_text("not an image")
    out = home / f"hits.{suffix}"
    done = run(home, "search", "shop", "photos", "-k", "2", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "queries": 41,
        "hits": 80,
        "failed": [{"query": "photos/zz <script>.jpg", "error": json.loads(done.stdout)["failed"][0]["error"]}],
        "out": str(out),
    }
    assert not list(home.glob(".*.part"))
    if suffix == "csv":
        rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
        assert (len(rows), rows[0]["rank"], rows[0]["missing"]) == (81, "1", "false")
        assert float(rows[0]["distance"]) == pytest.approx(0, abs=1e-6)
        assert Path(rows[0]["path"]).name == rows[0]["name"]
        assert rows[-1]["error"]
    elif suffix == "jsonl":
        answers = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        assert len(answers) == 41
        assert answers[0]["query"] == str(Path("photos", *Path(answers[0]["hits"][0]["uri"]).parts[-2:]))
    elif suffix == "parquet":
        table = pq.read_table(out)
        assert table.num_rows == 81
        assert table["distance"].to_pylist()[0] == pytest.approx(0, abs=1e-6)
    else:
        page = out.read_text(encoding="utf-8")
        assert page.count("data:image/jpeg") == 40 * 3
        assert "<script" not in page
        assert "zz &lt;script&gt;.jpg" in page
        assert "http:" not in page
        assert "https:" not in page


def test_a_missing_extra_is_named_before_the_search(home: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "sys.argv = ['lookalike', 'search', 'shop', 'photos', '--out', 'x.parquet']\n"
        "from lookalike.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=False)
    assert (done.returncode, "lookalike[parquet]" in done.stderr) == (1, True)
    assert not (home / "x.parquet").exists()


def test_a_hit_whose_file_is_gone_is_marked_with_advice(home: Path) -> None:
    query = home / "query.jpg"
    original = min((home / "photos").rglob("*.jpg"))
    with Collection.open(home / "shop") as shop:
        shop.add(home / "photos", labels="folder")
    shutil.move(original, query)
    done = run(home, "search", "shop", "query.jpg", "-k", "2")
    assert f"photos/{original.parent.name}/{original.name}  (missing)\n" in done.stdout.decode()
    assert "lookalike relocate" in done.stderr.decode()
    hits = json.loads(run(home, "search", "shop", "query.jpg", "-k", "80", "--json").stdout)["hits"]
    assert [hit["name"] for hit in hits if hit["missing"] and hit["uri"] == str(original)] == [original.name]


def test_unknown_names_in_filters_are_explained(home: Path) -> None:
    image = str(next((home / "photos").rglob("*.jpg")))
    done = run(home, "search", "shop", image, "--label", "Muetze")
    assert (done.returncode, done.stderr.decode()) == (
        1,
        "Error: No item has the label “Muetze”; did you mean “Mu\u0308tze”?\n",
    )
    empty = json.loads(run(home, "search", "shop", image, "--label", "Lamps", "--json").stdout)
    assert (empty["hits"], empty["note"]) == ([], "No item has the label “Lamps”; did you mean “lamp”?")
    partly = run(home, "search", "shop", image, "--label", "lamp", "--label", "Lamps", "--json")
    assert {hit["label"] for hit in json.loads(partly.stdout)["hits"]} == {"lamp"}
    assert "“Lamps”; did you mean “lamp”?" in partly.stderr.decode()
    with Collection.open(home / "shop") as shop:
        nothing = shop.search(image, label="lampp")
        assert (len(nothing), nothing.note) == (0, "No item has the label “lampp”; did you mean “lamp”?")
        assert shop.search(image, label="lamp").note is None
        assert shop.search(image, label="lamp", within=0).note is None
        assert "“material”" in str(shop.search(image, where={"material": "oak"}).note)


def test_a_label_is_found_in_the_other_unicode_form(home: Path) -> None:
    image = str(next((home / "photos").rglob("*.jpg")))
    hits = json.loads(run(home, "search", "shop", image, "--label", "M\u00fctze", "--json").stdout)["hits"]
    assert {hit["label"] for hit in hits} == {"Mu\u0308tze"}


def test_what_the_encoder_has_seen_is_said_in_one_line(home: Path) -> None:
    image = str(next((home / "photos").rglob("*.jpg")))
    assert len(run(home, "search", "shop", image).stderr.decode().splitlines()) == 1
    assert run(home, "search", "shop", image, "--json").stderr == b""
    assert b"scope" in run(home, "info", "shop").stdout
    assert all(encoder["scope"] for encoder in json.loads(run(home, "encoders", "--json").stdout))


def test_list_shows_collections_and_what_is_damaged(home: Path) -> None:
    for name, damage in (("broken", "manifest.json"), ("empty", "catalog.sqlite"), ("old", "")):
        shutil.copytree(home / "shop.lookalike", home / f"{name}.lookalike")
        if damage:
            (home / f"{name}.lookalike" / damage).unlink()
    manifest = home / "old.lookalike" / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"version": 1', '"version": 9'), encoding="utf-8")
    done = run(home, "list", "--json")
    assert done.returncode == 0
    listed = {one["name"]: one for one in json.loads(done.stdout)}
    assert listed["shop"]["state"] == "ok"
    assert (listed["shop"]["items"], listed["shop"]["encoder"], listed["shop"]["metric"]) == (40, "pocket", "euclidean")
    assert "damaged" in listed["broken"]["state"]
    assert "damaged" in listed["empty"]["state"]
    assert "version" in listed["old"]["state"]
    assert run(home, "list").stdout.decode().count("\n") == 5
    assert b"no collections" in run(home, "list", "photos").stdout
    assert [one["state"] for one in json.loads(run(home, "list", "shop", "--json").stdout)] == ["ok"]


def test_list_leaves_out_a_folder_beside_a_collection_of_its_name(home: Path) -> None:
    shutil.copytree(home / "photos", home / "shop")
    assert [one["path"] for one in json.loads(run(home, "list", "--json").stdout)] == ["shop.lookalike"]


HOSTILE = (
    "esc\x1b[31mred.jpg",
    "new\nline.jpg",
    "tab\tname.jpg",
    "c1\x9b31m.jpg",
    "bidi\u202egpj.jpg",
    "[red]x.jpg",
)


def test_hostile_names_stay_one_escaped_line_in_terminal_and_pipe(home: Path) -> None:
    folder = home / "hostile"
    folder.mkdir()
    for i, name in enumerate((*HOSTILE, "undecodable-\udcff.jpg")):
        sample.catalogue(40, 7)[i].photo(64).save(folder / "x.png")
        (folder / "x.png").rename(folder / name)
    indexed = run(home, "index", "hostile", "--to", "odd", "--encoder", "toyshop", "--labels", "folder")
    assert b"Traceback" not in indexed.stderr
    for shown in (
        in_a_terminal(home, "search", "odd", "hostile", "-k", "6"),
        run(home, "search", "odd", "hostile", "-k", "6").stdout.decode(),
    ):
        plain = shown.replace("\r", "").replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[2m", "")
        plain = plain.replace("\x1b[33m", "").replace("\x1b[?25l", "").replace("\x1b[?25h", "").replace("\x1b[2K", "")
        for bad in ("\x1b[31m", "\x9b", "\u202e", "\t"):
            assert bad not in plain
        for name in (
            r"esc\x1b[31mred.jpg",
            r"new\nline.jpg",
            r"tab\tname.jpg",
            r"bidi\u202egpj.jpg",
            "[red]x.jpg",
        ):
            assert name in plain


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize("options", [(), ("--json",), ("--label", "x\u0416")])
def test_a_narrow_encoding_is_no_traceback(home: Path, encoding: str, options: tuple[str, ...]) -> None:
    shutil.copy(next((home / "photos").rglob("*.jpg")), home / "\u0416\U0001f600.jpg")
    done = run(home, "search", "shop", "\u0416\U0001f600.jpg", *options, PYTHONIOENCODING=encoding)
    assert b"Traceback" not in done.stderr
    if options == ("--json",):
        assert json.loads(done.stdout.decode(encoding))["query"] == "\u0416\U0001f600.jpg"


def test_a_closed_pipe_is_silent(home: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m lookalike search shop photos -k 40 2>&1 | head -1",
        shell=True,
        cwd=home,
        capture_output=True,
        check=True,
    )
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"Error" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("search shop photos --out h.csv", "No file was written."),
        ("join shop --within 1 --out p.csv", "The same command continues"),
        ("duplicates shop --within 1", "No file was moved."),
    ],
)
def test_ctrl_c_says_what_to_do(home: Path, line: str, advice: str) -> None:
    program = (
        "import sys; from lookalike.collection import Collection\n"
        "def stop(*_): raise KeyboardInterrupt\n"
        f"Collection.open = stop; sys.argv = {['lookalike', *line.split()]!r}\n"
        "from lookalike.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.startswith(f"Stopped. {advice}")
