"""The results of a study as files: tables in CSV, figures in PNG, and both in one page."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from lookalike import atomic
from lookalike.compression_study import tables
from lookalike.compression_study.data import FOLDS, StudyData
from lookalike.compression_study.figures import Figure, figures
from lookalike.compression_study.measuring import NEIGHBOURS, Result
from lookalike.compression_study.methods import METHODS
from lookalike.errors import StorageError, reason_of
from lookalike.evaluation import report
from lookalike.evaluation.report import charts
from lookalike.evaluation.report.page import environment
from lookalike.tables import to_csv
from lookalike.version import __version__

PAGE = "report.html"


def write(data: StudyData, results: Sequence[Result], folder: Path) -> Path:
    """Write tables, figures and page of a study into its folder, and return the path of the page.

    Raises:
        MissingExtraError: the extra “report” is not installed.
        StorageError: the files cannot be written.
    """
    report.require()
    made, drawn = tables.tables(results), figures(results)
    try:
        for table in (*made, tables.cells(results)):
            atomic.write_bytes(folder / f"{table.name}.csv", to_csv([table.header, *table.rows]))
        for figure in drawn:
            atomic.write_bytes(folder / f"{figure.name}.png", charts.png(figure.draw))
        atomic.write_text(folder / PAGE, _render(data, made, drawn, results))
    except OSError as e:
        raise StorageError(f"The study in {folder} cannot be written: {reason_of(e)}.") from e
    return folder / PAGE


def _render(data: StudyData, made: Sequence[tables.Table], drawn: Sequence[Figure], results: Sequence[Result]) -> str:
    from markupsafe import Markup  # noqa: PLC0415 -- it comes with the extra “report”

    loaded, style = environment()
    template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    # The style is this package's own, and charts escape the texts that they quote.
    shown = [
        {
            "title": figure.title,
            "caption": figure.caption,
            "svg": Markup(charts.svg(figure.draw, figure.name, figure.title)),  # noqa: S704 -- as above
        }
        for figure in drawn
    ]
    return loaded.from_string(template).render(
        data=data.name,
        style=Markup(style),  # noqa: S704 -- as above
        figures=shown,
        tables=made,
        facts=_facts(data, results),
        folds=FOLDS,
        neighbours=NEIGHBOURS,
    )


def _facts(data: StudyData, results: Sequence[Result]) -> list[tuple[str, str]]:
    count = (
        f"{len(data.items):,} of {len(set(map(str, data.items.labels)))} classes, {data.space.dimension} numbers each"
    )
    asked = "each item of a fold, with itself left out" if data.queries is None else f"{len(data.queries):,} others"
    measured = {result.cell.method for result in results}
    return [
        ("items", count),
        ("metric", str(data.space.metric)),
        ("queries", asked),
        *((name, METHODS[name].title) for name in METHODS if name in measured),
        ("version", f"lookalike {__version__}"),
    ]
