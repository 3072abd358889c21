"""Options and arguments that several commands share, and functions that read their values."""

import inspect
import re
import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints
from urllib.parse import unquote

import typer

from lookalike import encoders
from lookalike.cli import output
from lookalike.cli.usage import MAX_SHOWN
from lookalike.errors import NotFoundError, UsageError
from lookalike.metric import Metric, VectorSpace
from lookalike.query import DEFAULT_K, DistanceRange, Filter
from lookalike.stores import filters
from lookalike.tables import shorten

if TYPE_CHECKING:
    from lookalike.collection import Collection

Name = Annotated[Path, typer.Argument(metavar="NAME", help="A collection: shop.lookalike, or shop for short.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

K = Annotated[int | None, typer.Option("-k", help="Number of nearest items.", show_default=str(DEFAULT_K))]
Within = Annotated[
    str | None,
    typer.Option(
        metavar="R|LO..HI",
        help="All items within a distance (0.35), between two (0.1..0.3), or at least this similar (80%).",
    ),
]
Far = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="RATE",
        help="All items within the distance of this false accept rate, such as 0.01; needs a calibrated encoder.",
    ),
]
MetricOfCollection = Annotated[Metric | None, typer.Option("--metric", help="Default: the collection's own.")]

Label = Annotated[list[str] | None, typer.Option(help="Only items with this label; repeat to allow several.")]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Only items with this attribute; repeat to require several."),
]
Id = Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this item; repeat to allow several.")]
Sketch = Annotated[bool, typer.Option("--sketch", help="The images are sketches.")]

Encoder = Annotated[
    str | None, typer.Option(help="A bundled name, a folder, or hf://org/repo.", show_default=encoders.DEFAULT)
]
Crops = Annotated[
    int | None,
    typer.Option(
        metavar="1|2|5|10",
        help="Average the embeddings of several crops of each image: 2 are the image and its mirror image, 5 its corners and"
        " its middle, 10 these and their mirror images. Embedding takes as many times as long.",
        show_default="the encoder's own, mostly 1",
    ),
]
MetricOfEncoder = Annotated[Metric | None, typer.Option("--metric", help="Default: the encoder's own.")]


_ADDRESS = re.compile(r"(?i)(https?|ftp|file|data|s3|gs):")

# A cosine distance is at most 2 and a Euclidean one is rarely above 10, so larger values up to 100 are probably per cent.
_MAX_COSINE = 2
_LARGE_EUCLIDEAN = 10
_PERCENT = 100

_Options = TypeVar("_Options")


def options(cls: type[_Options]) -> Callable[[Callable[[_Options], None]], Callable[..., None]]:
    """Give a command the options that the fields of a dataclass declare.

    A field has the annotation and the default that Typer expects of a parameter. The command gets an instance of the
    dataclass.
    """

    def decorate(command: Callable[[_Options], None]) -> Callable[..., None]:
        @wraps(command)
        def call(**values: Any) -> None:  # noqa: ANN401 -- the fields have the types
            command(cls(**values))

        # Typer reads these two.
        call.__annotations__ = get_type_hints(cls, include_extras=True)
        call.__signature__ = inspect.signature(cls)  # type: ignore[attr-defined]
        return call

    return decorate


def check_range(k: int | None, within: str | None, far: float | None, *, required: bool = False) -> None:
    """Check that at most one of -k, --within and --far is given; with ``required`` exactly one.

    Raises:
        UsageError: too many or too few of them are given.
    """
    count = sum(option is not None for option in (k, within, far))
    if count > 1 or (required and not count):
        raise UsageError("Give one of -k, --within and --far.")


def note_distance(within: str | None, space: VectorSpace) -> None:
    """Print a note if a distance looks like a similarity: 80 per cent, or 0.8 bits."""
    if within is None or "%" in within:
        return
    given = DistanceRange.parse(within, space)
    end = given.max
    if space.metric is Metric.HAMMING:
        looks_like_similarity = 0 < end < 1
    else:
        looks_like_similarity = (_MAX_COSINE if space.metric is Metric.COSINE else _LARGE_EUCLIDEAN) < end <= _PERCENT
    if looks_like_similarity:
        scale = 1 if end >= 1 else _PERCENT
        ends = [given.min, end] if ".." in within else [end]
        similarity = "..".join(f"{scale * each:g}%" for each in ends)
        output.stderr.print(
            f"“--within {within}” is a {space.metric} distance. If you mean a similarity: --within {similarity}",
            style="yellow",
        )


def check_local(given: str) -> None:
    """Refuse a web address where a file is expected.

    Raises:
        UsageError: it is one.
    """
    found = _ADDRESS.match(given)
    if found is None or Path(given).exists():
        return
    scheme = found[1].lower()
    # A path has lost one of two slashes.
    address = re.sub(r"^(\w+):/(?=[^/])", r"\1://", given) if scheme in ("http", "https", "ftp", "s3", "gs") else given
    match scheme:
        case "file":
            path = unquote(re.sub(r"(?i)^file:(/*localhost(?=/))?/*", "/", address))
            advice = f"is an address; give the path itself: {shlex.quote(path)}"
        case "data":
            advice = "is an address that holds the image. Save the image as a file, and give its path."
        case "http" | "https" | "ftp":
            advice = f"is a web address, but lookalike opens only files. Download the image first: curl -LO {shlex.quote(address)}"
        case _:
            advice = "is an address of a cloud, but lookalike opens only files. Download the image first."
    raise UsageError(f"“{shorten(address, MAX_SHOWN)}” {advice}")


def check_filter(collection: "Collection", where: Filter, *, json: bool) -> None:
    """Say on stderr which names of a filter no item has.

    Raises:
        NotFoundError: no item passes the filter. JSON has an answer without hits instead, with a note.
    """
    if not where:
        return
    if not collection.count(where):
        if json:
            return
        raise NotFoundError(filters.explain_nothing(collection.store, where))
    for problem in filters.unknown_names(collection.store, where):
        output.stderr.print(problem, style="yellow")


def parse_filter(labels: list[str] | None, where: list[str] | None, ids: list[str] | None) -> Filter:
    """Read the conditions of --label, --where and --id.

    Raises:
        UsageError: ``--where`` is not ``KEY=VALUE``, or gives an attribute two values.
    """
    attributes: dict[str, str] = {}
    for condition in where or []:
        key, equals, value = condition.partition("=")
        if not equals:
            raise UsageError(f"“--where {condition}” has no value. Write KEY=VALUE, such as --where colour=red.")
        if attributes.setdefault(key, value) != value:
            raise UsageError(f"--where {key} was given twice; give each attribute once.")
    return Filter(frozenset(labels) if labels else None, attributes, frozenset(ids) if ids else None)
