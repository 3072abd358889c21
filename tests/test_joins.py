"""Joins written to files: all formats, interruptions and resumption."""

import csv
import itertools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow.parquet as pq
import pytest

from lookalike import joins, search
from lookalike.ann import joins as approximate
from lookalike.collection import Collection
from lookalike.encoders import Encoder
from lookalike.errors import BusyError, StorageError, UsageError
from lookalike.joins import Join, formats, journal, writing
from lookalike.metric import Metric, pairwise
from lookalike.query import DistanceRange
from lookalike.search.answers import round_range
from lookalike.stores import Item
from recorder import Recorder, Report

ENDINGS = [".csv", ".jsonl", ".parquet"]


class Question(TypedDict, total=False):
    k: int
    within: DistanceRange


QUESTIONS: dict[str, Question] = {
    "k": {"k": 3},
    "range": {"within": DistanceRange(0, 0.75)},
    "minimum": {"within": DistanceRange(0.7, 0.75)},
}


def fill(path: Path, encoder: Path, count: int, seed: int) -> Path:
    """A collection of unit vectors, some of them twice, under names that have everything that a format must escape."""
    rng = np.random.default_rng(seed)
    with Collection.create(path, Encoder.open(encoder)) as made:
        vectors = rng.standard_normal((count, made.store.space.dimension)).astype(np.float32)
        vectors[:, 4:] = 0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[count // 2 :: 7] = vectors[:1]
        made.store.upsert([Item(f"{seed}-{i:04}", f'/p/{seed}, "{i}"\n  é.jpg') for i in range(count)], vectors)
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, pocket: Path) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("joins")
    return fill(folder / "a.lookalike", pocket, 450, 1), fill(folder / "b.lookalike", pocket, 200, 2)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.engine, "_QUERIES", 64)
    monkeypatch.setattr(writing, "_WORK", 1)


@pytest.fixture
def asked(both: tuple[Path, Path]) -> Iterator[Callable[..., Join]]:
    """Makes joins of the two collections, or with ``itself``."""
    with Collection.open(both[0]) as one, Collection.open(both[1]) as other:

        def make(question: str, *, itself: bool = False) -> Join:
            return one.join(None if itself else other, **QUESTIONS[question]).join

        yield make


def read(path: Path) -> list[tuple[str, str, float]]:
    if path.suffix == ".parquet":
        table = pq.read_table(path).to_pydict()
        return list(zip(table["left"], table["right"], table["distance"], strict=True))
    if path.suffix == ".jsonl":
        return [tuple(json.loads(line).values()) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return [(row["left"], row["right"], float(row["distance"])) for row in csv.DictReader(file)]


def definition(question: str, both: tuple[Path, Path], *, itself: bool) -> list[tuple[str, str, float]]:
    """From the vectors, by the plain definition."""
    with Collection.open(both[0]) as one, Collection.open(both[0 if itself else 1]) as other:
        sides = [list(c.store.scan()) for c in (one, other)]
        a, b = (c.store.vectors([item.id for item in items]) for c, items in zip((one, other), sides, strict=True))
    distances = pairwise(a, b, Metric.EUCLIDEAN).astype(np.float32)
    if itself:
        np.fill_diagonal(distances, np.inf)
    ask = QUESTIONS[question]
    if "k" in ask:
        near = np.zeros(distances.shape, bool)
        np.put_along_axis(near, np.argsort(distances, axis=1, kind="stable")[:, : ask["k"]], True, axis=1)
        near |= near.T if itself else False
    else:
        low, high = round_range(ask["within"])
        near = (distances >= low) & (distances <= high)
    near = np.triu(near, 1) if itself else near
    return sorted((sides[0][i].uri, sides[1][j].uri, float(distances[i, j])) for i, j in np.argwhere(near))


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_format_has_the_pairs_of_the_definition(
    asked: Callable[..., Join], both: tuple[Path, Path], tmp_path: Path, question: str, itself: bool
) -> None:
    expected = definition(question, both, itself=itself)
    assert len(expected) > 400
    for ending in ENDINGS:
        out = tmp_path / f"pairs{ending}"
        written = joins.write(asked(question, itself=itself), out)
        assert (written.pairs, written.removed, written.begin) == (len(expected), 0, 0)
        assert sorted(read(out)) == expected
        assert os.listdir(tmp_path) == [out.name]  # noqa: PTH208 -- nothing is left beside it
        out.unlink()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("itself", [False, True])
def test_a_repeatedly_interrupted_join_gives_the_same_file(
    asked: Callable[..., Join], tmp_path: Path, question: str, itself: bool, ending: str
) -> None:
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"pairs{ending}"
    joins.write(asked(question, itself=itself), whole)
    begun: list[int] = []
    for _ in range(100):
        chunks = itertools.count()

        def stop(report: Report, chunks: Iterator[int] = chunks) -> None:
            if (number := next(chunks)) == 0:
                begun.append(report.done)
            if number == 3:
                raise KeyboardInterrupt

        try:
            joins.write(asked(question, itself=itself), out, Recorder(stop))
        except KeyboardInterrupt:
            assert not out.exists()
        else:
            break
    assert begun == sorted(begun)
    assert len(set(begun)) > 2
    assert out.read_bytes() == whole.read_bytes()
    assert not journal.job_folder(out).exists()


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.slow
def test_an_approximate_join_resumes_and_differs_from_an_exact_one(
    both: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str, itself: bool
) -> None:
    monkeypatch.setattr(approximate, "_ROWS", 64)
    whole, out, recorder = tmp_path / "whole.csv", tmp_path / "pairs.csv", Recorder()
    with Collection.open(both[0]) as one, Collection.open(both[1]) as other:
        exact = one.join(None if itself else other, **QUESTIONS[question]).join
        join = one.join(None if itself else other, **QUESTIONS[question], approximate=True).join
        assert join.approximate is not None
        assert join.approximate.recall is not None
        assert join.approximate.recall > 0.9
        written = joins.write(join, whole)
        interrupted(exact, out, 3)
        interrupted(join, out, 3)
        assert joins.write(join, out, recorder).begin > 0
        assert out.read_bytes() == whole.read_bytes()
        assert joins.write(exact, tmp_path / "exact.csv").pairs == pytest.approx(written.pairs, rel=0.1)


PROGRAM = """
import sys, time
from pathlib import Path
from typing import TypedDict
from lookalike import joins, search
from lookalike.collection import Collection
from lookalike.joins import writing
from lookalike.progress import Silent
from lookalike.query import DistanceRange
search.engine._QUERIES, writing._WORK = 64, 1
class Printing(Silent):
    def advance(self, stage, done, total, detail=""):
        print(detail.split()[0], flush=True)
        time.sleep(0.02)
with Collection.open(sys.argv[1]) as one:
    joins.write(one.join(**eval(sys.argv[3])).join, Path(sys.argv[2]), Printing())
"""


@pytest.mark.parametrize(("question", "ending"), [("k", ".csv"), ("range", ".parquet"), ("minimum", ".jsonl")])
@pytest.mark.slow
def test_a_killed_join_resumes(
    asked: Callable[..., Join], both: tuple[Path, Path], tmp_path: Path, question: str, ending: str
) -> None:
    whole, out = tmp_path / f"whole{ending}", tmp_path / f"pairs{ending}"
    joins.write(asked(question, itself=True), whole)
    command = [sys.executable, "-c", PROGRAM, str(both[0]), str(out), str(QUESTIONS[question])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while int(process.stdout.readline()) < 192:
            pass
        with pytest.raises(BusyError, match="Another process"):
            joins.write(asked(question, itself=True), out)
        process.kill()
    assert not out.exists()
    recorder = Recorder()
    written = joins.write(asked(question, itself=True), out, recorder)
    assert written.begin >= 192 - 64
    assert recorder.notes == [f"{out}: resuming at {written.begin} of 450 items."]
    assert out.read_bytes() == whole.read_bytes()


def test_ctrl_c_explains_how_to_resume(both: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "pairs.csv"
    program = "from lookalike import search; from lookalike.cli import main; search.engine._QUERIES = 1; main()"
    command = [sys.executable, "-c", program, "join", str(both[0]), "--within", "9", "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not journal.job_folder(out).exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "The same command continues" in err
    assert "Traceback" not in err
    with Collection.open(both[0]) as one:
        assert joins.write(one.join(within=DistanceRange(0, 9)).join, out).pairs == 450 * 449 // 2
    assert not journal.job_folder(out).exists()


def test_a_full_disk_loses_nothing(asked: Callable[..., Join], both: tuple[Path, Path], tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.csv", tmp_path / "pairs.csv"
    joins.write(asked("range", itself=True), whole)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({whole.stat().st_size // 2},) * 2)\n"
    command = [sys.executable, "-c", limit + PROGRAM.replace("0.02", "0"), str(both[0]), str(out)]
    full = subprocess.run([*command, str(QUESTIONS["range"])], capture_output=True, text=True, check=False)
    assert "StorageError: The disk is full" in full.stderr
    assert not out.exists()
    assert joins.write(asked("range", itself=True), out).begin > 0
    assert out.read_bytes() == whole.read_bytes()


def interrupted(join: Join, out: Path, after: int = 4) -> None:
    chunks = itertools.count()

    def stop(_: Report) -> None:
        if next(chunks) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        joins.write(join, out, Recorder(stop))


@pytest.mark.parametrize(
    ("question", "values"),
    [("k", ["3", "None", "0"]), ("range", ["None", "0.75", "0"]), ("minimum", ["None", "0.75", "0.7"])],
)
def test_the_identity_in_a_journal_does_not_change(
    asked: Callable[..., Join], question: str, values: list[str]
) -> None:
    """Otherwise an unfinished join of an earlier version would start over."""
    names = ("the left collection", "the right collection", "k", "the radius", "the least distance", "--approximate")
    identity = asked(question).identity
    assert tuple(identity) == names
    assert [*identity.values()][2:] == [*values, "False"]


def test_a_changed_query_starts_over(asked: Callable[..., Join], tmp_path: Path) -> None:
    out, recorder = tmp_path / "pairs.csv", Recorder()
    interrupted(asked("range"), out)
    written = joins.write(asked("k"), out, recorder)
    assert written.begin == 0
    assert recorder.notes == [f"{out}: starting over: k and the radius changed since it began."]
    assert written.pairs == 450 * 3 == len(read(out))


@pytest.mark.parametrize(("which", "name"), [(0, "the left collection"), (1, "the right collection")])
def test_a_changed_collection_starts_over(tmp_path: Path, pocket: Path, which: int, name: str) -> None:
    made = [fill(tmp_path / f"{i}.lookalike", pocket, 200, i) for i in (1, 2)]
    out, recorder = tmp_path / "pairs.csv", Recorder()
    with Collection.open(made[0]) as one, Collection.open(made[1]) as other:
        interrupted(one.join(other, k=1).join, out)
        (one, other)[which].store.upsert([Item("new", "/new.jpg")], one.store.vectors(["1-0000"]))
        written = joins.write(one.join(other, k=1).join, out, recorder)
        assert (written.pairs, written.begin) == (one.store.count(), 0)
    assert recorder.notes == [f"{out}: starting over: {name} changed since it began."]


def test_a_damaged_job_starts_over(asked: Callable[..., Join], tmp_path: Path) -> None:
    out, whole = tmp_path / "pairs.csv", tmp_path / "whole.csv"
    joins.write(asked("k"), whole)
    folder = journal.job_folder(out)
    damages: list[Callable[[], object]] = [
        lambda: (folder / "journal.sqlite").write_bytes(b"no database" * 1000),
        lambda: (folder / "journal.sqlite").write_bytes(b""),
        (folder / "pairs.csv").unlink,
        lambda: (folder / "pairs.csv").write_bytes(b"left"),
    ]
    for damage in damages:
        interrupted(asked("k"), out)
        damage()
        assert joins.write(asked("k"), out).begin == 0
        assert out.read_bytes() == whole.read_bytes()
        out.unlink()


def entry(folder: Path, **values: object) -> None:
    """Change the one row of a journal."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as sql, sql:
        sql.execute(f"UPDATE job SET {', '.join(f'{key} = ?' for key in values)}", tuple(values.values()))


def test_the_journal_of_a_stranger_starts_over(asked: Callable[..., Join], tmp_path: Path) -> None:
    out, whole, victim = tmp_path / "pairs.csv", tmp_path / "whole.csv", tmp_path / "victim"
    victim.write_bytes(b"precious" * 9000)
    joins.write(asked("k"), whole)
    folder = journal.job_folder(out)

    def foreign_schema() -> None:
        (folder / "journal.sqlite").unlink()
        with closing(sqlite3.connect(folder / "journal.sqlite")) as sql:
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
            sql.execute(
                f"CREATE VIEW job AS SELECT max(i) AS identity, 1 AS done, 1 AS size, 1 AS pairs, 1 AS removed FROM ({endless})"
            )

    def link_to_another_database() -> None:
        with closing(sqlite3.connect(tmp_path / "other.sqlite")) as sql:
            sql.execute("CREATE TABLE mine (a)")
        (folder / "journal.sqlite").unlink()
        (folder / "journal.sqlite").symlink_to(tmp_path / "other.sqlite")

    def rollback_journal_that_names_a_file() -> None:  # which SQLite would delete
        name = os.fsencode(victim)
        record = b"".join(
            [
                (0x40000000 // 4096 + 1).to_bytes(4, "big"),
                name,
                len(name).to_bytes(4, "big"),
                sum(name).to_bytes(4, "big"),
                bytes.fromhex("d9d505f920a163d7"),
            ]
        )
        (folder / "journal.sqlite-journal").write_bytes(bytes.fromhex("d9d505f920a163d7") + bytes(600) + record)

    damages: list[Callable[[], object]] = [
        lambda: entry(folder, done=-1),
        lambda: entry(folder, done=10**9),
        lambda: entry(folder, size=-1),
        lambda: entry(folder, pairs=-(2**62)),
        lambda: entry(folder, removed=2**62),
        lambda: entry(folder, identity="[" * 100_000),
        lambda: entry(folder, identity="7" * 6_000),
        lambda: entry(folder, identity="[]"),
        lambda: entry(folder, identity="{}"),
        foreign_schema,
        link_to_another_database,
        rollback_journal_that_names_a_file,
    ]
    for damage in damages:
        interrupted(asked("k"), out)
        damage()
        assert joins.write(asked("k"), out).begin == 0
        assert out.read_bytes() == whole.read_bytes()
        assert not folder.exists()
        out.unlink()
    assert victim.read_bytes() == b"precious" * 9000
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as sql:
        assert sql.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


def test_the_folder_of_a_job_leads_to_no_other_file(asked: Callable[..., Join], tmp_path: Path) -> None:
    out, victim = tmp_path / "pairs.csv", tmp_path / "victim"
    victim.write_text("precious")
    folder, written = journal.job_folder(out), journal.job_folder(out) / "pairs.csv"
    makers: list[Callable[[], None]] = [
        lambda: written.symlink_to(victim),
        lambda: written.symlink_to("/dev/zero"),
        lambda: written.hardlink_to(victim),
        lambda: os.mkfifo(written),
        written.mkdir,
    ]
    for make in makers:
        interrupted(asked("k"), out)
        written.unlink()
        make()
        with pytest.raises(StorageError, match="not an unfinished join"):
            joins.write(asked("k"), out)
        shutil.rmtree(folder)
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="not an unfinished join"):
        joins.write(asked("k"), out)
    assert victim.read_text() == "precious"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_damaged_stream_of_parquet_is_one_line(asked: Callable[..., Join], tmp_path: Path) -> None:
    out = tmp_path / "pairs.parquet"
    interrupted(asked("k"), out)
    written = journal.job_folder(out) / "pairs.parquet"
    written.write_bytes(bytes(written.stat().st_size))
    with pytest.raises(StorageError, match=r"pairs\.parquet is damaged.*Delete its folder") as error:
        joins.write(asked("k"), out)
    assert "\n" not in str(error.value)


NAMES = ["a\nb", "a\rb", "=1+1", 'a"b', "a,b", "\x1b[31m", "\u2028", "日本", "", " a ", os.fsdecode(b"\xff.png")]


def test_names_of_any_kind_survive_in_each_format(tmp_path: Path) -> None:
    rows = [(name, name[::-1], float(i)) for i, name in enumerate(NAMES)]
    for suffix in ("csv", "jsonl", "parquet"):
        path = tmp_path / f"pairs.{suffix}"
        form = formats.find_format(path)
        data = form.begin + form.encode(rows)
        path.write_bytes(data)
        if form.finish:
            form.finish(path, tmp_path / "complete.parquet")
            names = read(tmp_path / "complete.parquet")
            assert names == [*rows[:-1], ("\\udcff.png", "gnp.\\udcff", rows[-1][2])]
        elif suffix == "csv":
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                assert [(row["left"], row["right"], float(row["distance"])) for row in csv.DictReader(file)] == rows
        else:
            assert [tuple(json.loads(line).values()) for line in data.decode().split("\n")[:-1]] == rows


def test_other_files_are_not_overwritten(asked: Callable[..., Join], tmp_path: Path) -> None:
    out = tmp_path / "pairs.csv"
    for taken, says in [
        (out / "mine", "it is a folder"),
        (journal.job_folder(out), "not an unfinished join"),
        (journal.job_folder(out) / "mine", "not an unfinished join"),
    ]:
        taken.parent.mkdir(exist_ok=True)
        taken.write_text("mine")
        with pytest.raises(StorageError, match=says):
            joins.write(asked("k"), out)
        assert taken.read_text() == "mine"
        assert len(list(tmp_path.rglob("*"))) == (1 if taken == journal.job_folder(out) else 2)
        subprocess.run(["rm", "-r", *tmp_path.iterdir()], check=True)
    out.write_text("the last one")
    interrupted(asked("k"), out)
    assert out.read_text() == "the last one"
    joins.write(asked("k"), out)
    assert len(read(out)) == 1350
    with pytest.raises(UsageError, match=r"\.parquet"):
        joins.write(asked("k"), tmp_path / "pairs.xlsx")
    with pytest.raises(StorageError, match="there is no folder"):
        joins.write(asked("k"), tmp_path / "none" / "pairs.csv")
    with pytest.raises(StorageError, match="cannot be written"):
        joins.write(asked("k"), tmp_path.joinpath(*["x"] * 3000) / "pairs.csv")


def test_items_removed_meanwhile_have_no_uri(tmp_path: Path, pocket: Path) -> None:
    out = tmp_path / "pairs.csv"
    with Collection.open(fill(tmp_path / "a.lookalike", pocket, 100, 1)) as one:
        join = one.join(within=DistanceRange(0, 9)).join
        one.remove(["1-0099"])
        written = joins.write(join, out)
    assert (written.pairs, written.removed) == (99 * 98 // 2, 99)
    assert not any("99" in uri for row in read(out) for uri in row[:2])


def test_progress_ends_at_the_total(asked: Callable[..., Join], tmp_path: Path) -> None:
    for question, itself in itertools.product(QUESTIONS, [False, True]):
        recorder = Recorder()
        written = joins.write(asked(question, itself=itself), tmp_path / "pairs.csv", recorder)
        first, *_, last = recorder.reports
        assert first == ("joining", 0, 450, "0 of 450 items, 0 pairs")
        assert last == ("joining", 450, 450, f"450 of 450 items, {written.pairs:,} pairs")
        done = [report.done for report in recorder.reports]
        assert done == sorted(done)


@pytest.mark.parametrize("count", [0, 1])
def test_collections_of_few_items(tmp_path: Path, pocket: Path, count: int) -> None:
    paths = [fill(tmp_path / f"{name}.lookalike", pocket, count, 1) for name in "ab"]
    with Collection.open(paths[0]) as one, Collection.open(paths[1]) as other:
        for ending, question in itertools.product(ENDINGS, QUESTIONS):
            ask = QUESTIONS[question]
            out = tmp_path / f"pairs{ending}"
            assert joins.write(one.join(**ask).join, out).pairs == 0
            assert read(out) == []
            assert joins.write(one.join(one, **ask).join, out).pairs == 0  # a self-join
            assert joins.write(one.join(other, **ask).join, out).pairs == (0 if question == "minimum" else count)


def test_a_stream_equals_the_file(asked: Callable[..., Join], tmp_path: Path) -> None:
    for form, ending in ((formats.CSV, ".csv"), (formats.LINES, ".jsonl")):
        parts: list[bytes] = []
        count = joins.stream(asked("range"), form, parts.append)
        assert joins.write(asked("range"), tmp_path / f"pairs{ending}").pairs == count
        assert b"".join(parts) == (tmp_path / f"pairs{ending}").read_bytes()


def test_rows_are_written_in_bounded_groups(
    asked: Callable[..., Join], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def encode(rows: Sequence[formats.Row]) -> bytes:
        sizes.append(len(rows))
        return formats.CSV.encode(rows)

    monkeypatch.setattr(writing, "_PAIRS", 100)
    monkeypatch.setattr(formats, "_GROUP", 256)
    monkeypatch.setattr(formats, "find_format", lambda _: formats.Format(b"left,right,distance\n", encode))
    written = joins.write(asked("range", itself=True), tmp_path / "pairs.csv")
    assert max(sizes) == 100
    assert sum(sizes) == written.pairs == len(read(tmp_path / "pairs.csv"))


def test_parquet_in_row_groups(asked: Callable[..., Join], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_PAIRS", 100)
    monkeypatch.setattr(formats, "_GROUP", 256)
    written = joins.write(asked("range", itself=True), tmp_path / "pairs.parquet")
    described = pq.read_metadata(tmp_path / "pairs.parquet")
    assert described.num_row_groups > 3
    assert described.num_rows == written.pairs
