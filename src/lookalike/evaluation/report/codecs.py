"""The page of measured codecs: quality against bytes as a chart and a table, one self-contained HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lookalike import atomic
from lookalike.errors import StorageError, reason_of
from lookalike.evaluation.report import charts
from lookalike.evaluation.report.page import environment, require
from lookalike.version import __version__


@dataclass(frozen=True)
class CodecPoint:
    """A line of the table, formatted.

    Attributes:
        name: the codec, or the original vectors.
        size: bytes of an item.
        quality: the score.
        kept: the score as a share of that of the original vectors.
        chosen: whether this codec is the chosen one.
    """

    name: str
    size: str
    quality: str
    kept: str
    chosen: bool


@dataclass(frozen=True)
class CodecPage:
    """What a page of measured codecs shows.

    Attributes:
        collection: its name.
        measure: the name of the score.
        rows: of the table; the last one is the original vectors.
        points: bytes of an item, share kept and whether it is chosen, of each codec.
        base_bytes: bytes of an original vector.
        protocol: how the codecs were measured, in sentences.
    """

    collection: str
    measure: str
    rows: Sequence[CodecPoint]
    points: Sequence[tuple[float, float, bool]]
    base_bytes: int
    protocol: Sequence[str]


def write_codecs(page: CodecPage, path: Path) -> None:
    """Write the page.

    Raises:
        MissingExtraError: the extra “report” is not installed.
        StorageError: the file cannot be written.
    """
    require()
    text = render_codecs(page)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, text)
    except OSError as e:
        raise StorageError(
            f"The report cannot be written to {path}: {reason_of(e)}. Choose another file with --report."
        ) from e


def render_codecs(page: CodecPage) -> str:
    """Render the page."""
    from markupsafe import Markup  # noqa: PLC0415 -- as jinja2

    (chosen,) = (row for row in page.rows if row.chosen)
    label = (
        f"{page.measure} kept by {len(page.points)} codecs against the bytes of an item. Chosen: {chosen.name}, which keeps"
        f" {chosen.kept} in {chosen.size} bytes. The table below has all values."
    )
    svg = charts.codecs(page.points, chosen.name, page.base_bytes, page.measure, label)
    loaded, style = environment()
    text = loaded.get_template("codecs.html").render(
        page=page,
        chosen=chosen,
        chart=Markup(svg),  # noqa: S704 -- the chart escapes its texts
        style=Markup(style),  # noqa: S704 -- the package's own
        version=__version__,
    )
    return f"{text}\n"
