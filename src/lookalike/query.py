"""Queries, and their filters and distance ranges."""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self, SupportsFloat, get_args

import numpy as np

from lookalike.errors import UsageError
from lookalike.images import ImageSource
from lookalike.metric import Metric, VectorSpace, similarity_to_distance
from lookalike.shapes import Shaped

Branch = Literal["photo", "sketch", "text"]
"""The branch of an encoder that an image or a text goes through."""


def check_rescore(rescore: object) -> None:
    """Check that the switch of a query is one.

    Raises:
        UsageError: it is neither true nor false.
    """
    if not isinstance(rescore, bool | np.bool_):
        raise UsageError(f"rescore of a query is True or False, not {rescore!r}.")


def to_branch(sketch: bool, *, by_text: bool = False) -> Branch:
    """Return the branch for sketches, for texts or for photos.

    Raises:
        UsageError: ``sketch`` is neither true nor false, or both are true.
    """
    if not isinstance(sketch, bool | np.bool_):
        raise UsageError(f"sketch is True or False, not {type(sketch).__name__}.")
    if sketch and by_text:
        raise UsageError("A text is not a sketch. Leave out the text or the sketch.")
    return "text" if by_text else "sketch" if sketch else "photo"


Vectors = Shaped[np.ndarray, "n c"]
"""Vectors: float32 ``(n, dimension)``, or packed bits uint8 ``(n, dimension / 8)``."""

MAX_TEXT = 1000
"""The limit of a text to search for, in characters. Encoders read 20 to 250 words."""

DEFAULT_K = 10
"""Number of nearest items that a query without k and without a distance range finds."""


def to_texts(name: str, values: object) -> list[str]:
    """Return a text, or several, as a list.

    Args:
        name: of one of them, for the message.
        values: a text, or several.

    Raises:
        UsageError: one of them is not a str.
    """
    if isinstance(values, str):
        return [values]
    if isinstance(values, bytes) or not isinstance(values, Iterable):
        raise UsageError(f"{name} is a str, not {type(values).__name__}.")
    texts = list(values)
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"{name} is a str, not {type(text).__name__}.")
    return texts


def check_text(text: object) -> str:
    """Check a text to search for.

    Raises:
        UsageError: it is not a str, is empty or too long, or is not Unicode.
    """
    if not isinstance(text, str):
        raise UsageError(f"A text to search for is a str, not {type(text).__name__}.")
    if not text.strip():
        raise UsageError("The text to search for is empty. Describe the image, such as “red mug”.")
    if len(text) > MAX_TEXT:
        raise UsageError(
            f"The text to search for has {len(text):,} characters. Give at most {MAX_TEXT:,}, such as “red mug”."
        )
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise UsageError(
            "The text to search for is not Unicode: it has half a surrogate pair. Give it in UTF-8."
        ) from e
    return text


@dataclass(frozen=True)
class Filter:
    """Conditions on items; an item passes if it meets all of them.

    Attributes:
        labels: the item's label is one of these; none allows all.
        attributes: the item has each of these attributes with this value.
        ids: the item's id is one of these; none allows all.
    """

    labels: frozenset[str] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    ids: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Check the types."""
        if not isinstance(self.attributes, Mapping):
            raise UsageError(f"The attributes of a filter are a mapping, not {type(self.attributes).__name__}.")
        to_texts("A label", () if self.labels is None else self.labels)
        to_texts("An id", () if self.ids is None else self.ids)
        to_texts("The name of an attribute", self.attributes)
        to_texts("The value of an attribute", self.attributes.values())

    def __bool__(self) -> bool:
        """Return whether there is a condition."""
        return self.labels is not None or self.ids is not None or bool(self.attributes)


ALL = Filter()


@dataclass(frozen=True)
class DistanceRange:
    """A range of distances, both ends included.

    Attributes:
        min: in the metric's unit, at least 0.
        max: at least ``min``; infinity includes everything.

    Raises:
        UsageError: an end is negative or NaN, or the range is empty.
    """

    min: float
    max: float

    def __post_init__(self) -> None:
        """Check the ends."""
        for name in ("min", "max"):
            end = _to_float(getattr(self, name))
            if not end >= 0:
                raise UsageError(f"A distance must be at least 0, not {end:g}.")
            object.__setattr__(self, name, end)
        if self.min > self.max:
            raise UsageError(
                f"The distance range {self.min:g}..{self.max:g} is empty: the lower bound must come first."
            )

    @classmethod
    def parse(cls, value: "Within", space: VectorSpace) -> Self:
        """Parse a distance range from text or numbers.

        Args:
            value: ``"0.35"`` or ``0.35`` for distances up to 0.35; ``"0.1..0.3"`` or ``(0.1, 0.3)`` for distances between
                0.1 and 0.3; ``"80%"`` for similarities of at least 80%; ``"60%..80%"`` for similarities between 60% and
                80%, in either order.
            space: converts a similarity to a distance.

        Raises:
            UsageError: the value has another form, or the range is empty.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            ends = [_parse_distance(end, value, space) for end in value.split("..")]
            if "%" in value:  # a higher similarity is a smaller distance
                ends.sort()
        elif isinstance(value, Sequence):
            ends = [_to_float(end) for end in value]
        else:
            ends = [_to_float(value)]
        match ends:
            case [end]:
                return cls(0.0, end)
            case [lower, upper]:
                return cls(lower, upper)
            case _:
                raise UsageError(f"A distance range has one or two ends, as 0.35 or 0.1..0.3, not “{value}”.")


def _parse_distance(text: str, range_text: str, space: VectorSpace) -> float:
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number)
    except ValueError:
        value, rest = math.nan, text
    if rest or math.isnan(value):
        raise UsageError(f"A distance range is written 0.35, 0.1..0.3 or 80%, not “{range_text}”.")
    return similarity_to_distance(value / 100, space.metric, space.dimension) if percent else value


def _to_float(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # raises if it is not a number
    except (TypeError, ValueError):
        raise UsageError(f"A distance is a number such as 0.35 or a text such as “80%”, not {value!r}.") from None


Within = str | SupportsFloat | Sequence[SupportsFloat] | DistanceRange
"""A distance range in any form that `DistanceRange.parse` reads."""


@dataclass(frozen=True, eq=False)
class Query:
    """A search with its options, or a batch of searches with the same options.

    The command line, the server and the Python API build it, and the store answers it. Exactly one of ``images``,
    ``texts``, ``items`` and ``vectors`` is given. A store takes only vectors; `lookalike.collection.Collection` turns the
    others into vectors.

    Attributes:
        images: images to search for.
        texts: descriptions of images to search for; the branch is then ``"text"``.
        items: ids of items of the collection to search for; an item is not among its own answers.
        vectors: ``(q, c)``, vectors to search for.
        branch: the branch that embeds the query. Distances of sketches and texts have no calibrated probability. “auto” lets
            each image decide: it is a sketch if it looks like a line drawing and the encoder has a sketch branch.
        metric: by default the collection's metric.
        k: number of nearest items; `DEFAULT_K` if neither this nor ``within`` is given.
        within: find all items in this range of distances instead of k.
        where: search only the items that pass.
        exact: true always searches exactly; false uses an approximate index if there is one. By default the collection's
            latency budget decides.
        limit: with ``within``, return at most this many hits a query, and mark the answer incomplete if there are more.
        expand: search for the midpoint of the query and the mean of this many nearest items, see `lookalike.expansion`.
        rescore: in a compressed collection, rank by the original vectors, which it keeps beside the codes; distances are
            then those of the originals, and vectors of the query are embeddings. If ``exact`` is true, or with a range, the
            answer is that of the collection before it was compressed. If it is false, only the items with the nearest codes
            are measured, as many as hold 99.5% of the 10 nearest items. By default the latency budget decides. In
            other collections nothing changes.

    Raises:
        UsageError: values that contradict each other or are out of range.
    """

    images: Sequence[ImageSource] = ()
    texts: Sequence[str] = ()
    items: Sequence[str] = ()
    vectors: Vectors | None = None
    branch: Branch | Literal["auto"] = "photo"
    metric: Metric | None = None
    k: int | None = None
    within: DistanceRange | None = None
    where: Filter = ALL
    exact: bool | None = None
    limit: int | None = None
    expand: int | None = None
    rescore: bool = False

    def __post_init__(self) -> None:
        """Check the values as far as possible without a store."""
        self._check_types()
        if sum(bool(len(given)) for given in (self.images, self.texts, self.items)) + (self.vectors is not None) > 1:
            raise UsageError("A query searches for images, texts, items or vectors: give one of them.")
        if self.texts:
            object.__setattr__(self, "branch", to_branch(self.branch == "sketch", by_text=True))
        if self.images and self.branch == "text":
            raise UsageError("The text branch embeds texts, not images.")
        if self.k is not None and self.within is not None:
            raise UsageError("Give k or a distance range, not both.")
        if self.limit is not None and self.within is None:
            raise UsageError("A limit is for a distance range; k says how many of the nearest items to find.")
        if self.k is None and self.within is None:
            object.__setattr__(self, "k", DEFAULT_K)
        for name in ("k", "limit", "expand"):
            if (number := getattr(self, name)) is not None:
                object.__setattr__(self, name, check_count(name, number))

    def _check_types(self) -> None:
        if str(self.branch) not in (*get_args(Branch), "auto"):
            raise UsageError(
                f"A branch is {', '.join(get_args(Branch)[:-1])} or {get_args(Branch)[-1]}, not {self.branch!r}."
            )
        for name in ("images", "texts", "items"):
            if not isinstance(getattr(self, name), Sequence):
                raise UsageError(f"The {name} of a query are a list, not {type(getattr(self, name)).__name__}.")
        to_texts("An item", self.items)
        for text in to_texts("A text", self.texts):
            check_text(text)
        for name, kind in (("metric", Metric), ("within", DistanceRange), ("exact", bool | np.bool_)):
            if not isinstance(value := getattr(self, name), kind | None):
                raise UsageError(f"{name} of a query cannot be {value!r}.")
        check_rescore(self.rescore)
        if not isinstance(self.where, Filter):
            raise UsageError(f"where of a query is a Filter, not {type(self.where).__name__}.")

    @property
    def known_branch(self) -> Branch:
        """The branch, or that of photos if the images are to decide."""
        return "photo" if self.branch == "auto" else self.branch

    def __len__(self) -> int:
        """Count the queries."""
        return len(self.images) + len(self.texts) + len(self.items) if self.vectors is None else len(self.vectors)


def check_count(name: str, value: object) -> int:
    """Check a number that must be at least 1.

    Args:
        name: of the option, for the message.
        value: the number.

    Raises:
        UsageError: it is not a whole number, or less than 1.
    """
    if isinstance(value, bool | np.bool_):
        raise UsageError(f"{name} must be a whole number, not {value!r}.")
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # raises if it is not a whole number
    except TypeError:
        raise UsageError(f"{name} must be a whole number, not {value!r}.") from None
    if number < 1:
        raise UsageError(f"{name} must be at least 1, not {number}.")
    return number
