"""A `lookalike.progress.Progress` that keeps what it receives."""

from collections.abc import Callable
from typing import NamedTuple


class Report(NamedTuple):
    """One call of `advance`."""

    stage: str
    done: int
    total: int
    detail: str


class Recorder:
    """Keeps reports and notes; may call a function at each report, which may raise to stop the work."""

    def __init__(self, at_report: Callable[[Report], None] = lambda _: None) -> None:
        self.reports: list[Report] = []
        self.notes: list[str] = []
        self._at_report = at_report

    def advance(self, stage: str, done: int, total: int, detail: str = "") -> None:
        report = Report(stage, done, total, detail)
        self.reports.append(report)
        self._at_report(report)

    def note(self, message: str) -> None:
        self.notes.append(message)
