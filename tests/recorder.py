"""A `lookalike.progress.Progress` that records its calls."""

from collections.abc import Callable
from typing import NamedTuple


class Report(NamedTuple):
    """One call of `advance`."""

    stage: str
    done: int
    total: int
    detail: str


class Recorder:
    """Records reports and notes; calls a function at each report, which may raise an error to stop the work."""

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
