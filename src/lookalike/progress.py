"""Progress reports of long-running work."""

from typing import Protocol


class Progress(Protocol):
    """A receiver of progress reports.

    A function reports from the thread that called it. The command line shows the reports as a progress bar; the Python
    API discards them by default.
    """

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Report the progress of a stage.

        Args:
            stage: the work, such as ``"indexing"``. A new name begins a new stage.
            done: finished units, in 0…total.
            total: all units of the stage.
            detail: text to show beside the bar, such as ``"1,204 pairs"``.
        """
        ...

    def note(self, message: str) -> None:
        """Report one sentence, to be shown also after the work ends."""
        ...


class Silent:
    """A `Progress` that discards its reports."""

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Discard the report."""

    def note(self, message: str) -> None:
        """Discard the message."""


SILENT = Silent()
