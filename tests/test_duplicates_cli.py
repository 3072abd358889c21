"""The commands `lookalike duplicates …` as a user types them, and the page that they write."""

import csv
import errno
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import sys
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import pocket_encoder
from lookalike import atomic, duplicates, sample
from lookalike.cli import output
from lookalike.collection import Collection
from lookalike.duplicates import SearchRadius, page, result, trash
from lookalike.encoders.card import Calibration
from test_cli import Shell

COPIES = Calibration(
    distance_at_false_accept_rate={"0.01": 0.03},
    knots=((0.02, 0.9999), (0.03, 0.99), (0.06, 0.5), (1.0, 0.0)),
    genuine=9998,
    impostors=9998,
    data="made up",
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of a shop with copies: 0 twice, 1 recompressed and small, 2 mirrored."""
    folder = tmp_path_factory.mktemp("shop")
    sample.write(folder, 8, 0)
    out = folder / "album"
    out.mkdir()
    for i, path in enumerate(sorted((folder / "photos").rglob("*.jpg"))):
        shutil.copy(path, out / f"{i}.jpg")
    shutil.copy(out / "0.jpg", out / "0 <b>&amp; again.jpg")
    with Image.open(out / "1.jpg") as image:
        image.save(out / "1-recompressed.jpg", quality=40)
        image.resize((64, 64)).save(out / "1-small.png")
    with Image.open(out / "2.jpg") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(out / "2-mirrored.jpg", quality=95)
    for path in out.iterdir():
        os.utime(path, (1e9, 1e9))
    return out


@pytest.fixture
def shell(
    photos: Path, pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Shell:
    """A folder with an indexed album and a calibrated encoder."""
    shutil.copytree(photos, tmp_path / "album")
    shutil.copytree(pocket, tmp_path / "pocket")
    pocket_encoder.calibrated(tmp_path / "pocket", COPIES)
    monkeypatch.chdir(tmp_path)
    run = Shell(monkeypatch, capfd)
    assert run("index", "album", "--to", "a", "--encoder", "pocket").code == 0
    return run


def groups(found: dict[str, list[dict[str, list[dict[str, str]]]]]) -> list[list[str]]:
    return [[Path(member["path"]).name for member in group["members"]] for group in found["groups"]]


def test_the_table_says_which_image_to_keep_and_why(shell: Shell) -> None:
    done = shell("duplicates", "a")
    assert done.code == 0
    assert re.search(r"1 +keep +256×256 .*/0 <b>&amp; again.jpg", done.out)
    assert re.search(r"1 +could go +identical +0\.00 +256×256 .*/0\.jpg", done.out)
    assert re.search(r"2 +keep +256×256 .*/1\.jpg +highest resolution, 256 × 256; largest file", done.out)
    assert re.search(r"2 +could go +near-duplicate +\S+ +64×64 .*/1-small\.png", done.out)
    assert "2 groups of duplicates among 12 images; 3 could go" in done.out
    assert "images within 0.02" in done.err
    assert "No file was moved" in done.err
    assert len(list(Path("album").iterdir())) == 12


@pytest.mark.parametrize("line", ["a", "--within 0.02 a", "find a", "./a", "a.lookalike"])
def test_find_is_the_default_command(line: str, shell: Shell) -> None:
    assert len(shell("duplicates", *line.split(), "--json").json["groups"]) == 2


def test_a_collection_with_the_name_of_a_command_is_found(shell: Shell) -> None:
    Path("a.lookalike").rename("find.lookalike")
    for line in ("find find", "./find", "find.lookalike"):
        assert shell("duplicates", *line.split(), "--json").json["name"] == "find"
    assert shell("duplicates", "find").code == 2


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("", []),
        ("find", ["--within", "--far", "--turned", "--chains", "--keep", "--reference", "--out", "--json"]),
        ("apply", ["--within", "--far", "--turned", "--keep", "--reference", "--out", "--trash", "--yes", "--json"]),
        ("undo", ["--yes", "--json"]),
        ("decide", ["--distinct", "--forget", "--list", "--json"]),
        ("leaks", ["--within", "--far", "--turned", "--out", "--json"]),
    ],
)
def test_the_help_of_a_command_lists_only_its_own_options(command: str, options: list[str], shell: Shell) -> None:
    done = shell("duplicates", *command.split(), "--help")
    assert done.code == 0
    assert sorted(re.findall(r"^│ (--\S+)", done.out, re.MULTILINE)) == sorted([*options, "--help"])


def test_json_has_all_facts_of_a_member(shell: Shell) -> None:
    found = shell("duplicates", "find", "a", "--within", "95%", "--turned", "--keep", "path:*.png,size", "--json").json
    assert list(found) == ["name", "codec", "images", "within", "explanation", "metric", "groups", "skipped"]
    assert found["within"] == pytest.approx(1 / 0.95 - 1)
    by_first = {group["members"][0]["path"].rpartition("/")[2]: group["members"] for group in found["groups"]}
    kept, other, *_ = by_first["1-small.png"]
    assert list(kept) == [
        *(
            "id",
            "path",
            "label",
            "tier",
            "distance",
            "orientation",
            "kept",
            "reason",
            "width",
            "height",
            "bytes",
            "modified",
        )
    ]
    assert (kept["kept"], kept["reason"], kept["width"]) == (True, "path matches *.png", 64)
    assert (other["kept"], other["tier"], other["orientation"]) == (False, "near-duplicate", "same")
    (mirrored,) = (members for name, members in by_first.items() if name.startswith("2"))
    assert [m["orientation"] for m in mirrored] == ["same", "mirrored"]


def test_pairs_go_into_a_file(shell: Shell) -> None:
    assert shell("duplicates", "a", "--far", "0.01", "--out", "pairs.csv").err.startswith("Wrote pairs.csv.")
    with Path("pairs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["tier"] for row in rows] == ["identical", *["near-duplicate"] * 3]
    assert [float(row["distance"]) for row in rows] == sorted(float(row["distance"]) for row in rows)
    shell("duplicates", "a", "--far", "0.01", "--out", "pairs.jsonl")
    lines = [json.loads(line) for line in Path("pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [{key: str(value) for key, value in line.items()} for line in lines] == rows


def test_decisions_are_made_listed_and_forgotten(shell: Shell) -> None:
    names = ["album/1.jpg", "album/1-small.png", "album/1-recompressed.jpg"]
    assert "3 new pairs marked as distinct" in shell("duplicates", "decide", "a", "--distinct", *names).out
    assert groups(shell("duplicates", "a", "--json").json) == [["0 <b>&amp; again.jpg", "0.jpg"]]
    listed = shell("duplicates", "decide", "a", "--list", "--json").json
    assert len(listed) == 3
    assert {Path(path).name for pair in listed for path in pair["paths"]} == {Path(name).name for name in names}
    assert "is distinct from" in shell("duplicates", "decide", "a", "--list").out
    assert shell("duplicates", "decide", "a", "--forget", *names[:2], "--json").json == {"changed": 1, "decisions": 2}
    shell("duplicates", "decide", "a", "--forget", names[2])
    assert "No decisions yet." in shell("duplicates", "decide", "a", "--list").out
    assert len(groups(shell("duplicates", "a", "--json").json)) == 2


def test_apply_moves_files_and_undo_moves_them_back(shell: Shell) -> None:
    before = {path.name: path.read_bytes() for path in Path("album").iterdir()}
    done = shell("duplicates", "apply", "a", "--reference", "album/nowhere")
    assert (done.code, "reference folder" in done.err) == (2, True)
    done = shell("duplicates", "apply", "a", "--out", "page.html")
    assert done.code == 0
    assert "3 moved" in done.out
    assert "lookalike duplicates undo a-trash" in done.err
    assert {path.name for path in Path("album").iterdir()} == set(before) - {
        "0.jpg",
        "1-small.png",
        "1-recompressed.jpg",
    }
    assert Path("page.html").read_text(encoding="utf-8").count('<img src="data:image/jpeg') == 5  # made before
    assert shell("info", "a", "--json").json["items"] == 9
    assert "No duplicates among 9 images." in shell("duplicates", "a").out
    assert "Moved back: 3 images." in shell("duplicates", "undo", "a-trash").out
    assert {path.name: path.read_bytes() for path in Path("album").iterdir()} == before
    assert shell("info", "a", "--json").json["items"] == 12
    moved = shell("duplicates", "apply", "a", "--trash", "bin", "--json").json["moved"]
    assert (len(moved["files"]), moved["failures"]) == (3, [])
    Path("album/0.jpg").write_bytes(b"somebody else's")
    done = shell("duplicates", "undo", "bin", "--json")
    assert (done.code, len(done.json["files"]), len(done.json["failures"])) == (1, 2, 1)


def refuse_to_unlink(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let no file of this name be unlinked, as in a folder that is read-only."""
    unlink = Path.unlink

    def read_only(self: Path, missing_ok: bool = False) -> None:
        if self.name == name and self.parent.name == "album":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", read_only)


def test_the_table_and_the_page_say_which_files_could_not_be_moved(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_unlink(monkeypatch, "0.jpg")
    done = shell("duplicates", "apply", "a", "--out", "page.html")
    assert done.code == 1
    assert re.search(r"1 +left +identical .*/album/0\.jpg +it cannot be moved: Permission denied", done.out)
    assert re.search(r"2 +moved +near-duplicate .*/1-small\.png", done.out)
    assert "2 moved" in done.out
    assert "1 left in place" in done.out
    text = Path("page.html").read_text(encoding="utf-8")
    assert re.findall(r"(?<=>)[^<]*, (?:left|moved)(?=<)", text) == [
        "identical, left",
        *["near-duplicate, moved"] * 2,
    ]
    assert "it cannot be moved: Permission denied" in text
    assert text.count('<img src="data:image/jpeg') == 5  # drawn before the files moved
    assert Path("album/0.jpg").exists()


def test_nothing_is_called_moved_if_nothing_moved(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(trash, "move", denied)
    done = shell("duplicates", "apply", "a", "--out", "page.html")
    assert done.code == 1
    assert "0 moved, 0 bytes; 3 left in place" in done.out
    assert not re.search(r"\d +moved +\w", done.out)
    assert "lookalike duplicates undo" not in done.err
    text = Path("page.html").read_text(encoding="utf-8")
    assert "None of the others was moved" in text
    assert ", moved<" not in text


def test_an_interrupted_apply_says_what_it_has_moved(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    move, moved = trash.move, list[Path]()

    def interrupted(source: Path, target: Path, sha256: str) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(source)
        move(source, target, sha256)

    monkeypatch.setattr(trash, "move", interrupted)
    done = shell("duplicates", "apply", "a", "--out", "page.html")
    assert done.code == 130
    assert "Moved 1 image" in done.err
    assert "lookalike duplicates undo a-trash" in done.err
    assert "1 moved" in done.out
    assert done.out.count("the move ended before it") == 2
    assert Path("page.html").read_text(encoding="utf-8").count("the move ended before it") == 2
    monkeypatch.setattr(trash, "move", move)
    shell("duplicates", "undo", "a-trash")
    assert len(list(Path("album").iterdir())) == 12


def test_a_page_that_cannot_be_written_stops_apply_before_a_file_moves(shell: Shell) -> None:
    Path("page.html").mkdir()
    done = shell("duplicates", "apply", "a", "--out", "page.html")
    assert (done.code, done.out) == (1, "")
    assert "page.html cannot be written" in done.err
    assert len(list(Path("album").iterdir())) == 12


def test_a_page_that_cannot_be_written_again_does_not_hide_what_has_moved(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes, written = atomic.write_bytes, list[Path]()

    def full(path: Path, *parts: bytes) -> None:
        if path in written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        write_bytes(path, *parts)

    monkeypatch.setattr(atomic, "write_bytes", full)
    done = shell("duplicates", "apply", "a", "--out", "page.html")
    assert done.code == 1
    assert "3 moved" in done.out
    assert "lookalike duplicates undo a-trash" in done.err
    assert "page.html cannot be written: No space left" in done.err


def test_output_in_an_encoding_without_a_name_fails_nowhere(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("album/0.jpg").rename("album/0 日本 \x1b[31m.jpg")
    shell("index", "album", "--to", "a")
    for arguments in (["--out", "page.html"], ["--trash", "bin", "--json"]):
        written = {name: io.BytesIO() for name in ("stdout", "stderr")}
        for name, stream in written.items():
            monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, "cp1252", write_through=True))
        done = shell("duplicates", "apply", "a", *arguments)
        assert done.code == 0
        assert b"1-small.png" in written["stdout"].getvalue()
        assert all(b"\x1b" not in stream.getvalue() for stream in written.values())
        for name in written:
            monkeypatch.setattr(sys, name, getattr(sys, f"__{name}__"))
        assert len(list(Path("album").iterdir())) == 9
        if "--json" not in arguments:
            assert "0 日本" in Path("page.html").read_text(encoding="utf-8")
        assert shell("duplicates", "undo", "bin" if "--json" in arguments else "a-trash").code == 0


def test_apply_and_undo_ask_before_files_move_outside_of_the_indexed_folders(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    album = Path("album").absolute()

    def answered(text: str) -> io.StringIO:
        stdin = io.StringIO(text)
        monkeypatch.setattr(stdin, "isatty", lambda: True)
        return stdin

    def count() -> int:
        return len(list(album.iterdir()))

    done = shell("duplicates", "apply", "a", "--within", "0.02")
    assert (done.code, done.out, count()) == (2, "", 12)
    assert (
        f"3 files would move from places outside of the folders that you indexed on this machine: {album}." in done.err
    )
    assert "No file was moved. To move them anyway: lookalike duplicates apply a --within 0.02 --yes" in done.err
    assert done.err.count("\n") == 1
    monkeypatch.setattr(output.Terminal, "is_terminal", True)
    for answer in ("n\n", "\n", ""):
        monkeypatch.setattr(sys, "stdin", answered(answer))
        done = shell("duplicates", "apply", "a")
        assert (done.code, count()) == (2, 12)
        assert str(album / "1-small.png") in done.err
    monkeypatch.setattr(sys, "stdin", answered("y\n"))
    assert (shell("duplicates", "apply", "a").code, count()) == (0, 9)
    monkeypatch.setattr(output.Terminal, "is_terminal", False)
    done = shell("duplicates", "undo", "a-trash")
    assert (done.code, count()) == (2, 9)
    assert "lookalike duplicates undo a-trash --yes" in done.err
    assert (shell("duplicates", "undo", "a-trash", "--yes").code, count()) == (0, 12)
    assert (shell("duplicates", "apply", "a", "--yes").code, count()) == (0, 9)


def run_advice(line: str, shell: Shell, **names: str) -> int:
    """Run a command that a line advises, and return its exit code."""
    command = line[line.index("lookalike ") :].partition(". To")[0]
    for name, value in names.items():
        command = command.replace(name, value)
    return shell(*shlex.split(command)[1:]).code


def test_the_advice_on_missing_files_names_commands_that_work(shell: Shell) -> None:
    for name in ("0.jpg", "0 <b>&amp; again.jpg", "1.jpg"):  # of the first content every file
        Path("album", name).unlink()
    done = shell("duplicates", "a")
    assert done.code == 0
    assert "0.jpg: it is missing" in done.err
    (advice,) = (line for line in done.err.splitlines() if "--prune" in line)
    assert "3 files of the collection no longer exist" in advice
    assert run_advice(advice, shell) == 0
    assert shell("info", "a", "--json").json["items"] == 9
    Path("album").rename("renamed")
    done = shell("duplicates", "a")
    assert done.code == 0
    (advice,) = (line for line in done.err.splitlines() if "--prune" in line)
    assert "album is gone or empty" in advice
    assert run_advice(advice, shell, NEW=str(Path("renamed").absolute())) == 0
    done = shell("duplicates", "a")
    assert (done.code, "missing" in done.err) == (0, False)
    Path("renamed").rename("renamed again")
    (advice,) = (line for line in shell("duplicates", "a").err.splitlines() if "--prune" in line)
    assert run_advice(advice.partition("To remove")[2], shell) == 0
    assert shell("info", "a", "--json").json["items"] == 0


def test_apply_says_that_sidecars_stay(shell: Shell) -> None:
    for name in ("0.xmp", "0.jpg.xmp", "0.mov", "5.xmp", "1-small.txt"):
        Path("album", name).write_bytes(b"")
    done = shell("duplicates", "apply", "a")
    assert "4 files named like moved images stay in place: 0.jpg.xmp, 0.mov, 0.xmp, 1-small.txt." in done.err


@pytest.mark.parametrize("uri", ["images/../../victim.png", "../victim.png", "album/../0.jpg"])
def test_an_item_whose_file_lies_outside_is_skipped(uri: str, shell: Shell) -> None:
    shell("duplicates", "decide", "a", "--distinct", "album/0.jpg", "album/1.jpg")
    with closing(sqlite3.connect("a.lookalike/catalog.sqlite")) as sql, sql:
        sql.execute("UPDATE items SET uri = ? WHERE uri LIKE '%/album/0.jpg'", (uri,))
    assert shell("duplicates", "decide", "a", "--list").code == 0
    done = shell("duplicates", "a")
    assert done.code == 0
    assert len([line for line in done.err.splitlines() if line.startswith("skipped")]) == 1
    assert "1 group of duplicates" in done.out


def test_leaks_between_a_training_and_a_test_set(shell: Shell) -> None:
    Path("test").mkdir()
    shutil.copy("album/0.jpg", "test/same.jpg")
    shutil.copy("album/5.jpg", "test/five.jpg")
    with Image.open("album/5.jpg") as image:
        image.transpose(Image.Transpose.ROTATE_180).save("test/turned.jpg", quality=90)
    shell("index", "test", "--to", "t", "--encoder", "pocket")
    done = shell("duplicates", "leaks", "a", "t", "--out", "leaks.html")
    assert "2 identical of the 3 test images are among the 12 training images." in done.out
    assert Path("leaks.html").read_text(encoding="utf-8").count('<img src="data:image/jpeg') == 4
    found = shell("duplicates", "leaks", "a", "t", "--turned", "--json").json
    assert found["leaked"] == {"identical": 2, "near-duplicate": 1, "similar": 0}
    assert [pair["orientation"] for pair in found["pairs"]] == ["same", "same", "rotated 180°"]
    assert shell("duplicates", "leaks", "t", "a", "--within", "0").out.count("identical") == 4
    done = shell("duplicates", "leaks", "a", "a")
    assert (done.code, "one collection" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", 2, "Name a collection"),
        ("nowhere", 1, "no collection at nowhere"),
        ("a --within 0.1 --far 0.01", 2, "--within and --far"),
        ("a --within near", 2, "not “near”"),
        ("a --within -1", 2, "at least 0"),
        ("a --within nan", 2, "not “nan”"),
        ("a --within 0.1..0.3", 2, "leaves them out"),
        ("a --far 0.002", 2, "calibrated for the false accept rate"),
        ("a --keep best", 2, "not a rule"),
        ("a --reference elsewhere", 2, "under the reference folder"),
        ("a --out pairs.parquet", 2, ".html, .csv or .jsonl"),
        ("a --out album/0.jpg/x.csv", 1, "is a file, not a folder"),
        (f"a --out {'x/' * 3000}x.html", 1, "File name too long"),
        (f"a --out {'x' * 300}.html", 1, "File name too long"),
        (f"undo {'x/' * 3000}", 1, "File name too long"),
        (f"apply a --trash {'x' * 300}", 1, "File name too long"),
        ("apply a --chains", 2, "The option --chains is unknown"),
        ("apply a --trash album", 1, "holds other files"),
        ("a album/0.jpg", 2, "too many arguments"),
        ("decide a --distinct album/0.jpg", 2, "at least two"),
        ("decide a --distinct album/0.jpg album/none.jpg", 1, "no image “album/none.jpg”"),
        ("decide a --forget", 2, "Name the images"),
        ("decide a --forget album/none.jpg", 1, "no image"),
        ("decide a --distinct --forget album/0.jpg", 2, "Give one of"),
        ("decide a", 2, "Give one of"),
        ("decide a --list album/0.jpg", 2, "leave the images out"),
        ("a --apply", 2, "lookalike duplicates apply a"),
        ("--undo bin", 2, "lookalike duplicates undo bin"),
        ("leaks a", 2, "TEST"),
        ("undo album", 1, "not a trash folder"),
        ("find", 2, "NAME"),
        ("apply a --trash", 2, "See lookalike duplicates apply --help."),
        ("a --within", 2, "See lookalike duplicates --help."),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(line: str, code: int, words: str, shell: Shell) -> None:
    before = sorted(Path("album").iterdir())
    done = shell("duplicates", *line.split())
    assert done.code == code
    assert words in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert sorted(Path("album").iterdir()) == before


def test_an_encoder_without_calibration_is_refused_with_advice(shell: Shell) -> None:
    pocket_encoder.calibrated(Path("a.lookalike/encoder"), None)
    done = shell("duplicates", "a")
    assert (done.code, done.out) == (2, "")
    assert re.search(r"not calibrated .*--within", done.err)
    assert shell("duplicates", "a", "--within", "0.02").code == 0


class Page(HTMLParser):
    """The tags, ids, links and images of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object"), tag
        known = dict(attrs)
        if tag not in ("meta", "link", "img", "circle", "br"):
            self.open.append(tag)
        if tag == "img":
            self.images.append(known)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name == "href" and value and tag == "a"]

    def handle_endtag(self, tag: str) -> None:
        if tag != "circle":
            assert self.open.pop() == tag


def test_the_page_is_complete_in_one_file_and_escapes_all_data(shell: Shell) -> None:
    shell("duplicates", "a", "--within", "0.03", "--turned", "--out", "page.html")
    text = Path("page.html").read_text(encoding="utf-8")
    shown = Page(text)
    assert len(shown.images) == 7
    assert all(image["alt"] and (image["src"] or "").startswith("data:image/jpeg;base64,") for image in shown.images)
    assert all(link.removeprefix("#") in shown.ids for link in shown.links)
    assert "0 &lt;b&gt;&amp;amp; again.jpg" in text
    assert "<b>&amp; again" not in text
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    for part in (
        "prefers-color-scheme: dark",
        'name="viewport"',
        "mirrored",
        "✓ keep",
        "highest resolution",
        f"below {Path('album').absolute()}.",
    ):
        assert part in text


def test_a_page_without_groups_states_that(shell: Shell) -> None:
    shell("duplicates", "a", "--within", "0", "--keep", "size", "--out", "page.html")
    shell("duplicates", "apply", "a", "--within", "0")
    shell("duplicates", "a", "--within", "0", "--out", "none.html")
    text = Path("none.html").read_text(encoding="utf-8")
    assert "No duplicates" in text
    assert Page(text).images == []


def test_a_page_says_how_many_groups_it_leaves_out(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_SHOWN", 1)
    shell("duplicates", "a", "--out", "page.html")
    text = Path("page.html").read_text(encoding="utf-8")
    assert len(Page(text).images) == 2
    assert "And 1 more groups" in text


def test_an_image_without_a_thumbnail_is_still_on_the_page(shell: Shell) -> None:
    with Collection.open("a.lookalike") as collection:
        found = duplicates.find_duplicates(collection, SearchRadius.fixed(0.03))
        for path in Path("album").iterdir():
            path.write_bytes(b"")
        page.write_page(found, Path("deep/er/page.html"), collection)
    assert Path("deep/er/page.html").read_text(encoding="utf-8").count("no image") == 5


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1_540_000, "1.5 MB"), (2e15, "2000.0 TB")],
)
def test_sizes_have_a_unit(count: int, text: str) -> None:
    assert result.format_size(int(count)) == text
