"""Decisions about duplicates by several processes at once."""

import itertools
import multiprocessing
from pathlib import Path

import pytest

from lookalike import sample
from lookalike.collection import Collection
from lookalike.duplicates import decisions
from lookalike.encoders import Encoder
from lookalike.errors import BusyError, StorageError


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
        with decisions._locked(collection), pytest.raises(BusyError, match="try again"):
            decisions.mark_distinct(collection, items)
        assert decisions.read(collection) == frozenset()
        (collection.path / "decisions.lock").unlink()
        (collection.path / "decisions.lock").mkdir()
        with pytest.raises(StorageError, match=r"decisions\.lock cannot be written"):
            decisions.mark_distinct(collection, items)
