"""Running a study: a file for each cell, so that a stopped study resumes."""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import active_children, get_context
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from lookalike import atomic
from lookalike.compression_study.data import StudyData
from lookalike.compression_study.measuring import Cell, Result, measure
from lookalike.compression_study.methods import METHODS, UMAP, UMAP_PARTS, UMAP_SETTINGS
from lookalike.errors import LookalikeError, MismatchError, MissingExtraError, StorageError, UsageError, reason_of
from lookalike.progress import SILENT, Progress
from lookalike.untrusted import parsing

STUDY = "study.json"
CELLS = "cells"

GRID_NEIGHBOURS = 5, 10, 15, 30, 50
GRID_MIN_DIST = 0.0, 0.1, 0.3, 0.5
PERCENTS = 10, 20, 30, 40, 50, 60, 70, 80, 90, 100

EXTRA_SIZE = 64
"""Bytes of UMAP's codes in the further measurements: 16 floats."""

# Read by BLAS and by umap-learn's compiler when a process starts.
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


class _About(BaseModel):
    """The study of a folder."""

    data: str
    fingerprint: str


def plan(data: StudyData, methods: Sequence[str]) -> list[Cell]:
    """Return the cells of a study, each once: the methods at all sizes, then the further measurements of UMAP."""
    cells = [Cell(name, size) for name in methods if name in METHODS for size in METHODS[name].sizes(data.space)]
    if UMAP_SETTINGS in methods:
        cells += [Cell(UMAP, EXTRA_SIZE, k, distance) for k in GRID_NEIGHBOURS for distance in GRID_MIN_DIST]
    if UMAP_PARTS in methods:
        cells += [Cell(UMAP, EXTRA_SIZE, percent=percent) for percent in PERCENTS]
    return list(dict.fromkeys(cells))


def run(
    data: StudyData, methods: Sequence[str], folder: Path, *, jobs: int = 1, progress: Progress = SILENT
) -> list[Result]:
    """Measure all cells of a study that its folder does not have yet.

    Each cell is measured in a process with one thread. Its result is written at once, so that a study that was stopped
    resumes with the next cell. A cell that fails is reported and left out.

    Args:
        data: what to study.
        methods: names of methods and of further measurements.
        folder: of the study.
        jobs: cells at a time; with more than one, times are those of a busy machine.
        progress: receives the stage “measuring”.

    Raises:
        MismatchError: the folder has a study of other data.
        StorageError: the folder cannot be written.
    """
    _claim(data, folder)
    cells = plan(data, methods)
    results = {cell: result for cell in cells if (result := _read(folder, cell)) is not None}
    missing = [cell for cell in cells if cell not in results]
    progress.advance("measuring", len(results), len(cells))
    if missing:
        _measure_all(data, missing, jobs, _Receiver(folder, results, len(cells), progress))
    return [results[cell] for cell in cells if cell in results]


@dataclass(frozen=True, eq=False)
class _Receiver:
    """Takes the result of each cell.

    Attributes:
        folder: of the study.
        results: by cell, so far.
        total: number of cells.
        progress: receives the stage “measuring”.
        noted: the notes so far; each is given once.
    """

    folder: Path
    results: dict[Cell, Result]
    total: int
    progress: Progress
    noted: set[str] = field(default_factory=set)

    def take(self, cell: Cell, done: int, measured: "Future[Result]") -> None:
        """Write a result, or report why there is none."""
        try:
            self.results[cell] = measured.result()
            _write(self.folder, self.results[cell])
        except MissingExtraError as e:
            self._note(f"left out: {cell.method}: {e}")
        except UsageError as e:  # such as too few items for this codec
            self._note(f"left out: {cell.method} of {cell.size} bytes: {e}")
        self.progress.advance("measuring", done, self.total, f"{cell.method} {cell.size} B")

    def _note(self, message: str) -> None:
        if message not in self.noted:
            self.noted.add(message)
            self.progress.note(message)


def _measure_all(data: StudyData, cells: Sequence[Cell], jobs: int, receiver: _Receiver) -> None:
    before, done = set(active_children()), len(receiver.results)
    with _one_thread():
        pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (data,))
        try:
            running = {pool.submit(_measure, cell): cell for cell in cells}
            for future in as_completed(running):
                done += 1
                receiver.take(running[future], done, future)
        except BrokenProcessPool as e:
            raise StorageError(
                "A process of the study ended in the middle of a cell; the machine may be out of memory. The same command"
                " resumes the study; use a smaller --jobs."
            ) from e
        except BaseException:
            for process in set(active_children()) - before:  # in the middle of a cell, which may take minutes
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


_data: list[StudyData] = []
"""What a process of a study measures."""


def _begin(data: StudyData) -> None:
    """Prepare a process; Ctrl-C reaches it, too, but the main process ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _data[:] = [data]


def _measure(cell: Cell) -> Result:
    return measure(_data[0], cell)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that start in this block use one thread each."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _claim(data: StudyData, folder: Path) -> None:
    """Write what the folder's study is of, or check it."""
    path = folder / STUDY
    try:
        if path.exists():
            about = _About.model_validate(parsing.read_json(path))
            if about.fingerprint != data.fingerprint:
                raise MismatchError(
                    f"{folder} has a study of other embeddings or labels ({about.data}). Choose another folder with --to."
                )
            return
        if folder.exists() and any(folder.iterdir()):
            raise MismatchError(f"{folder} has other files, not a study. Choose another folder with --to.")
        (folder / CELLS).mkdir(parents=True)
        atomic.write_text(path, _About(data=data.name, fingerprint=data.fingerprint).model_dump_json() + "\n")
    except OSError as e:
        raise StorageError(f"The study in {folder} cannot be written: {reason_of(e)}.") from e
    except ValueError as e:
        raise MismatchError(f"{path} does not describe a study. Choose another folder with --to.") from e


def _read(folder: Path, cell: Cell) -> Result | None:
    """Read the result of a cell; none if there is none, or if it is damaged."""
    try:
        result = TypeAdapter(Result).validate_python(parsing.read_json(folder / CELLS / f"{cell.name}.json"))
    except (OSError, ValueError, LookalikeError):
        return None
    return result if result.cell == cell else None


def _write(folder: Path, result: Result) -> None:
    try:
        atomic.write_bytes(folder / CELLS / f"{result.cell.name}.json", TypeAdapter(Result).dump_json(result))
    except OSError as e:
        raise StorageError(f"The study in {folder} cannot be written: {reason_of(e)}.") from e
