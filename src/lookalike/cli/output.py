"""Output of commands: lines and tables for people, JSON for programs, progress bars and notes on stderr."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import typer

from lookalike.errors import StorageError
from lookalike.tables import Row, printable, text_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from lookalike.embedding import Embedder
    from lookalike.encoders.network import Device

# Characters outside ASCII that `printable` escapes are in strings of a document; JSON escapes those of ASCII itself.
_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

# Seconds between two lines of progress in a file or a pipe.
_LINE_EVERY = 5.0

Style = Literal["", "bold", "dim", "red", "yellow"]


class Terminal:
    """Prints lines for people on one of the standard streams, styled if the stream is a terminal."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name

    @property
    def file(self) -> TextIO:
        """The current stream; tests and progress bars replace it."""
        stream: TextIO = getattr(sys, self._name)
        return stream

    @property
    def is_terminal(self) -> bool:
        """Whether the stream is a terminal."""
        return self.file.isatty()

    def print(self, text: str = "", style: Style = "") -> None:
        """Print one line, with its control characters and line breaks escaped."""
        self.write(styled(text, style))

    def print_lines(self, text: str, style: Style = "") -> None:
        """Print lines that the library formatted."""
        self.write("\n".join(styled(line, style) for line in text.split("\n")))

    def write(self, text: str) -> None:
        """Print lines that `styled` returned."""
        typer.echo(text, file=self.file, color=False if "NO_COLOR" in os.environ else None)


stdout = Terminal("stdout")
stderr = Terminal("stderr")


def styled(text: str, style: Style = "") -> str:
    """Escape control characters, and add the codes of a style; `Terminal.write` strips them for files."""
    text = printable(text)
    match style:
        case "":
            return text
        case "bold" | "dim":
            return typer.style(text, **{style: True})
        case colour:
            return typer.style(text, fg=colour)


def write_json(value: object) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(to_json(value) + "\n")


def to_json(value: object) -> str:
    """Convert to JSON in which standard output can write each character, and none controls a terminal."""
    utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not utf8)
    return text if text.isprintable() else _IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], text)


def write_data(data: bytes) -> None:
    """Write a part of a text file in UTF-8 to standard output: unchanged, but in a terminal with control characters escaped."""
    if stdout.is_terminal:
        stdout.write("\n".join(map(styled, data.decode(errors="surrogateescape").removesuffix("\n").split("\n"))))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)


def print_table(rows: Sequence[Row], header: Row, *, show_header: bool = True) -> None:
    """Print a table without folding lines, so that paths can be copied and piped; right-align numbers."""
    first, *lines = text_table(header, rows).splitlines()
    shown = [styled(line) for line in lines]
    stdout.write("\n".join([styled(first, "bold"), *shown] if show_header else shown))


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print a line ``key  value`` for each fact."""
    width = max((len(key) for key, _ in facts), default=0)
    for key, value in facts:
        stdout.write(styled(f"{key:<{width}}", "bold") + "  " + styled(value))


def print_scope(embedder: "Embedder") -> None:
    """Print on stderr, below the results, what the encoder was trained on."""
    stdout.file.flush()
    stderr.print(f"{embedder.name}: {embedder.scope}", style="dim")


def print_device(device: "Device") -> None:
    """Print on stderr that a GPU was used, or why it was not; nothing if there is none."""
    if device.name != "CPU":
        stderr.print(f"Embedded on the GPU, by {device.name}.", style="dim")
    elif device.note:
        stderr.print(device.note, style="yellow")


def shown_path(path: str | Path) -> str:
    """Return a path as it is, or relative to the working folder if that is shorter."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the working folder is gone, or the path is on another drive
        return str(path)
    return min(str(path), relative, key=len)


def print_skipped(reasons: Sequence[str], limit: int = 10) -> None:
    """Print on stderr the reasons why images were skipped."""
    for reason in reasons[:limit]:
        stderr.print(f"skipped: {reason}", style="yellow")
    if len(reasons) > limit:
        stderr.print(f"skipped: and {len(reasons) - limit:,} more", style="yellow")


@contextmanager
def progress_bar() -> Iterator["ProgressBar"]:
    """Show a progress bar on stderr until the block ends."""
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.close()


class ProgressBar:
    """A `lookalike.progress.Progress` that shows a bar for the current stage, and notes as lines.

    If stderr is not a terminal, it writes a line every few seconds instead of the bar.
    """

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._stage = ""
        self._task: TaskID | None = None
        self._last_line = time.monotonic()

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Update the bar; a new stage replaces it. With a total of 0, the bar shows no amount."""
        if self._bars is None:
            if not stderr.is_terminal:
                self._print_line(stage, done, total, detail)
                return
            self._bars = _bars(_console())
            self._bars.start()
        count, detail = f"{done:,}/{total:,}" if total and not detail else "", printable(detail)
        if self._task is None or stage != self._stage:
            if self._task is not None:
                self._bars.remove_task(self._task)
            # An earlier run may have done a part, so the rate counts from here.
            self._task = self._bars.add_task(stage, total=total or None, completed=done, count=count, detail=detail)
            self._stage = stage
        else:
            self._bars.update(self._task, total=total or None, completed=done, count=count, detail=detail)

    def _print_line(self, stage: str, done: int, total: int, detail: str) -> None:
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            count = f" {done:,}/{total:,}" if total else ""
            stderr.print(f"{stage}{count} {detail}".rstrip())

    def note(self, message: str) -> None:
        """Print a line above the bar."""
        stderr.print(message, style="yellow")

    def close(self) -> None:
        """Remove the bar."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def _console() -> "Console":
    # Importing Rich takes longer than a search in a small collection.
    from rich.console import Console  # noqa: PLC0415

    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def _bars(console: "Console") -> "Progress":
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class Rate(ProgressColumn):
        """Units per second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="dim")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console,
        transient=True,
    )


@contextmanager
def stoppable(advice: str) -> Iterator[None]:
    """Print how to continue if Ctrl-C ends the block."""
    try:
        yield
    except KeyboardInterrupt:
        stderr.print(f"Stopped. {advice}", style="yellow")
        raise


def check_folder(folder: Path) -> None:
    """Check, before long work, that its results can be written into a folder; create nothing.

    Raises:
        StorageError: the folder is a file, or cannot be written or created.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))  # noqa: PTH110 -- false for a name that is too long, too
    if not existing.is_dir():
        raise StorageError(f"{existing} is a file, not a folder. Give another path.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StorageError(f"The folder {existing} is not writable. Give another path.")
