"""What commands print: tables and pictures for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.color import Color
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.style import Style
from rich.text import Text

from lookalike import images
from lookalike.collection import Collection
from lookalike.collection import Progress as Adding
from lookalike.errors import LookalikeError, StorageError
from lookalike.metric import Metric, format_distance, format_probability
from lookalike.stores import Answer, Hit

Tell = Callable[[int, int], None]
"""Is told (done, total)."""

# No markup: brackets in a name are part of the name.
stdout = Console(highlight=False, soft_wrap=True, markup=False)
stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

# Side of a picture in the terminal, in half lines.
_SIDE = 20


def write_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def stream_json(parts: Iterable[Answer], metric: Metric) -> None:
    """Parts of one exact answer as one JSON document, the same as that of `Answer.to_dict`, in the memory of a part."""
    sys.stdout.write('{"hits": [')
    comma = ""
    for part in parts:
        for hit in part.hits:
            sys.stdout.write(comma + json.dumps(hit.to_dict(), ensure_ascii=False))
            comma = ", "
    rest = Answer((), metric).to_dict()
    del rest["hits"]
    sys.stdout.write("], " + json.dumps(rest, ensure_ascii=False)[1:] + "\n")


def print_answer(answer: Answer, collection: Collection, query: Path | None = None) -> None:
    """An answer as a table; in a terminal with colours, the query and the first hits also as pictures."""
    if not answer.hits:
        stdout.print("Nothing found.")
        return
    if stdout.is_terminal and stdout.color_system == "truecolor":
        _print_pictures(answer.hits, answer.metric, collection, query)
    stdout.print(_table(answer, collection))
    if answer.recall is not None:
        rest = "" if answer.complete else "; more lie within"
        stdout.print(f"approximately (recall {answer.recall:.2f}){rest}", style="dim")


def print_stream(parts: Iterable[Answer], collection: Collection, query: Path | None = None) -> None:
    """Parts of one exact answer, as a table each, in the memory of a part."""
    empty = True
    for part in parts:
        if empty and stdout.is_terminal and stdout.color_system == "truecolor":
            _print_pictures(part.hits, part.metric, collection, query)
        stdout.print(_table(part, collection, header=empty))
        empty = False
    if empty:
        stdout.print("Nothing found.")


def _table(answer: Answer, collection: Collection, *, header: bool = True) -> Text:
    known = answer.hits[0].probability is not None
    rows = [
        (
            format_distance(hit.distance, answer.metric),
            f"{hit.similarity:.1%}",
            *((format_probability(hit.probability),) if known else ()),
            hit.item.label or "",
            str(collection.file(hit.item)),
        )
        for hit in answer.hits
    ]
    names = ("distance", "similarity", *(("same",) if known else ()), "label", "picture")
    table = columns(rows, names)
    return table if header else table[len(table.plain.partition("\n")[0]) + 1 :]


def _print_pictures(hits: Sequence[Hit], metric: Metric, collection: Collection, query: Path | None) -> None:
    fits = max(1, stdout.width // (_SIDE + 5) - (query is not None))
    shown = [(collection.file(hit.item), format_distance(hit.distance, metric)) for hit in hits[:fits]]
    if query is not None:
        shown.insert(0, (query, "query"))
    panels = []
    for path, title in shown:
        try:
            panels.append(Panel(_draw(path), title=title, width=_SIDE + 4, border_style="dim"))
        except LookalikeError:  # a picture that has gone is still listed below
            continue
    stdout.print(Columns(panels))


def _draw(path: Path) -> Text:
    """A picture of half blocks: each character is two pixels, its foreground the upper one."""
    pixels = images.load(path, _SIDE)
    text = Text()
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom)))
        text.append("\n")
    text.rstrip()
    return text


class _Rate(ProgressColumn):
    """Pictures a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="dim")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with rate and time left; what it yields is told (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    # Into a file or a pipe, Rich would still write an empty line.
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


class Telling:
    """A `Progress` that passes the figures on."""

    def __init__(self, tell: Tell) -> None:
        """Pass (done, total) on to a function."""
        self._tell = tell

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002 -- one bar, one stage
        """Pass on how far it is."""
        self._tell(done, total)

    def note(self, message: str) -> None:
        """Print a sentence."""
        stderr.print(message)


class _Bar:
    """A `lookalike.progress.Progress` as a bar of Rich."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: tuple[str, TaskID] | None = None

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show how far a stage is; what was done before its first report says nothing of the speed."""
        if self._task is None or self._task[0] != stage:
            self._task = stage, self._bars.add_task(stage, total=total, detail="")
            self._bars.reset(self._task[1], completed=done)
        self._bars.update(self._task[1], completed=done, total=total, detail=detail)

    def note(self, message: str) -> None:
        """Print a sentence."""
        stderr.print(Text(message, style="yellow"))


@contextmanager
def progress_bar() -> Iterator[_Bar]:
    """Show a bar for each stage on stderr, with details and the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        yield _Bar(bars)


@contextmanager
def stoppable(go_on: str) -> Iterator[None]:
    """Work that Ctrl-C may end at any time; then it is said how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        stderr.print(f"Stopped. {go_on}", style="yellow")
        raise


def adding(tell: Callable[[int, int], None]) -> Callable[[Adding], None]:
    """For `Collection.add`, which tells more than a bar shows."""
    return lambda state: tell(state.done, state.total)


def print_failures(failures: Sequence[tuple[Path, str]]) -> None:
    """Pictures that were left out, on stderr."""
    print_left_out([reason for _, reason in failures])


def print_left_out(reasons: Sequence[str], most: int = 10) -> None:
    """Why pictures were left out, on stderr."""
    for reason in reasons[:most]:
        stderr.print(Text(f"left out: {reason}", style="yellow"))
    if len(reasons) > most:
        stderr.print(f"left out: and {len(reasons) - most:,} more", style="yellow")


def check_folder(folder: Path) -> None:
    """Found out before an hour's work whose results go there; nothing is made yet.

    Raises:
        StorageError: the folder is none, or cannot be written or made.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise StorageError(f"{there} is a file, not a folder. Give another place.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StorageError(f"The folder {there} cannot be written into. Give another place.")


def columns(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> Text:
    """A plain table whose lines are never folded, so that paths can be copied and piped; numbers go right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    numeric = [all(row[i][:1].isdigit() for row in rows) for i in range(len(header))]
    text = Text()
    for j, row in enumerate((header, *rows)):
        cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        text.append("  ".join(cells).rstrip() + "\n", "bold" if j == 0 else "")
    text.rstrip()
    return text
