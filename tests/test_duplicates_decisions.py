"""Decisions about duplicates by several processes at once."""

import itertools
import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lookalike import sample
from lookalike.collection import Collection
from lookalike.duplicates import decisions
from lookalike.encoders import Encoder
from lookalike.errors import BusyError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    sample.write(folder, 8, 3)
    return folder / "photos"


def decide(path: Path, ids: list[list[str]], gate: "multiprocessing.synchronize.Barrier") -> None:
    with Collection.open(path) as collection:
        items = [list(collection.store.get(pair).values()) for pair in ids]
        gate.wait()
        for pair in items:
            decisions.mark_distinct(collection, pair)


def test_two_processes_at_once_lose_no_decision(photos: Path, pocket: Path, tmp_path: Path) -> None:
    with Collection.create(tmp_path / "c.lookalike", Encoder.open(pocket)) as collection:
        collection.add(photos)
        ids = sorted(item.id for item in collection.store.scan())[:8]
    assert len(ids) == 8
    work = [list(pair) for pair in itertools.combinations(ids, 2)]
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(2)
    both = [context.Process(target=decide, args=(collection.path, work[i::2], gate)) for i in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    with Collection.open(tmp_path / "c.lookalike") as again:
        assert len(decisions.read(again)) == len(work)


def test_a_locked_or_unwritable_folder_is_an_error(
    photos: Path, pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "_TIMEOUT", 0.05)
    with Collection.create(tmp_path / "c.lookalike", Encoder.open(pocket)) as collection:
        collection.add(photos)
        items = list(collection.store.scan())[:2]
        with decisions._locked(collection), pytest.raises(BusyError, match="Try again"):
            decisions.mark_distinct(collection, items)
        assert decisions.read(collection) == frozenset()
        (collection.path / "decisions.lock").unlink()
        (collection.path / "decisions.lock").mkdir()
        with pytest.raises(StorageError, match=r"decisions\.lock cannot be used"):
            decisions.mark_distinct(collection, items)


PAIR = f'["{"0" * 64}", "{"1" * 64}"]'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "more than 64 lists"),
        (b'{"format": ' + b"9" * 6_000 + b"}", "6,000 characters"),
        (b"\xff", "not UTF-8"),
        (b"", "expecting value"),
        (b"[]", "damaged"),
        (b"3", "damaged"),
        (b'{"format": {"a": "\\u001b[31m\\n"}}', "damaged"),
        (b'{"format": 1, "distinct": [["a", "b"]]}', "64 hexadecimal digits"),
        (f'{{"format": 1, "distinct": [{PAIR}, {PAIR[:-1]}, ""]]}}'.encode(), "damaged"),
        (f'{{"distinct": [["{"1" * 64}", "{"0" * 64}"]]}}'.encode(), "lower SHA-256 first"),
        (b'{"distinct": null}', "damaged"),
        (b'{"distinct": [], "distinct": []}', "occurs twice"),
    ],
)
def test_decisions_of_a_stranger_are_refused_in_one_line(
    content: bytes, message: str, pocket: Path, tmp_path: Path
) -> None:
    with Collection.create(tmp_path / "c.lookalike", Encoder.open(pocket)) as collection:
        collection.folder.decisions.write_bytes(content)
        with pytest.raises(StorageError, match=message) as error:
            decisions.read(collection)
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


def test_decisions_that_are_not_a_file_are_neither_read_nor_written(photos: Path, pocket: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"distinct": []}')
    with Collection.create(tmp_path / "c.lookalike", Encoder.open(pocket)) as collection:
        collection.add(photos)
        path, items = collection.folder.decisions, list(collection.store.scan())[:2]
        makers: list[Callable[[], None]] = [
            lambda: path.symlink_to(secret),
            lambda: path.symlink_to("/dev/zero"),
            lambda: os.mkfifo(path),
            path.mkdir,
        ]
        for make in makers:
            make()
            with pytest.raises(StorageError, match="cannot be read"):
                decisions.mark_distinct(collection, items)
            path.rmdir() if path.is_dir() else path.unlink()
        lock = path.with_suffix(".lock")
        lock.unlink()
        lock.symlink_to(tmp_path / "other")
        with pytest.raises(StorageError, match="lock"):
            decisions.mark_distinct(collection, items)
        assert not (tmp_path / "other").exists()
