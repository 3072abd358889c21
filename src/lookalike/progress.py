"""The protocol by which long work reports its progress."""

from typing import Protocol


class Progress(Protocol):
    """Receives reports of long work, always from the thread that called it.

    Each door shows them in its own way: the command line as a bar, a server as events, the Python API not at all unless
    it is asked to.
    """

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Report how far a stage is.

        Args:
            stage: what is being done, such as ``"indexing"``. A new name begins a new stage.
            done: units done, in 0…total.
            total: units of the stage.
            detail: more to show beside the bar, such as ``"1,204 pairs"``.
        """
        ...

    def note(self, message: str) -> None:
        """Report one sentence that is worth keeping when the work is over."""
        ...


class Silent:
    """A `Progress` that shows nothing."""

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show nothing."""

    def note(self, message: str) -> None:
        """Show nothing."""


SILENT = Silent()
