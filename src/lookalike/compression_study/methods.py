"""The methods of a study: codecs by name, and the sizes that each can have."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from lookalike.codecs import Codec, NoCodec
from lookalike.codecs.rabitq import MAX_BITS as RABITQ_BITS
from lookalike.codecs.umap import MAX_DIMENSION as UMAP_DIMENSION
from lookalike.compress import parse_codec
from lookalike.errors import UsageError
from lookalike.metric import VectorSpace

SIZES = 4096, 2048, 1024, 512, 256, 128, 64, 32, 16
"""Bytes of a code: R4's 1024 to 4 floats, whose last five are the bytes of its 2048 to 128 bits."""

MOST_BITS = 2048

_LEAST_OF_PART = 4
"""Minimum numbers of a part of a product code."""


@dataclass(frozen=True)
class Method:
    """A method of reduction.

    Attributes:
        name: as the command line takes it.
        title: what it is, in words.
        settings: maps the dimension of embeddings and the bytes of a code to a codec and its settings, as
            `lookalike.compress.parse_codec` reads them; to none if the method has no codec of this size.
    """

    name: str
    title: str
    settings: Callable[[int, int], str | None]

    def sizes(self, space: VectorSpace) -> list[int]:
        """Return the bytes that its codes can have, from large to small."""
        if self.name == BASE:
            return [4 * space.dimension]
        return [size for size in SIZES if self.settings(space.dimension, size) is not None]

    def codec(self, space: VectorSpace, size: int) -> Codec:
        """Make the codec of a size, not fitted yet.

        Raises:
            UsageError: there is none of this size.
            MissingExtraError: it needs a package that is not installed.
        """
        if self.name == BASE:
            return NoCodec(space)
        settings = self.settings(space.dimension, size)
        if settings is None:
            raise UsageError(f"“{self.name}” has no codes of {size} bytes of {space.dimension} numbers.")
        return parse_codec(settings, space)


BASE = "base"
UMAP = "umap"
UMAP_SETTINGS = "umap-settings"
UMAP_PARTS = "umap-parts"


def _floats(name: str, most: int = max(SIZES)) -> Callable[[int, int], str | None]:
    return lambda dimension, size: f"{name}:{size // 4}" if size // 4 <= min(dimension, most) else None


def _pca_then(name: str, per_byte: int) -> Callable[[int, int], str | None]:
    return lambda dimension, size: f"pca:{size * per_byte}+{name}" if size * per_byte <= dimension else None


def _bits(name: str, ending: str = "", *, any_number: bool = True) -> Callable[[int, int], str | None]:
    def settings(dimension: int, size: int) -> str | None:
        return f"{name}:{8 * size}{ending}" if 8 * size <= (MOST_BITS if any_number else dimension) else None

    return settings


def _rabitq(dimension: int, size: int) -> str | None:
    """Use as few bits a number as there are numbers for; a byte is the code's factor."""
    for bits in range(1, RABITQ_BITS + 1):
        if (reduced := 8 * (size - 1) // bits) <= dimension:
            return f"pca:{reduced}+rabitq:{bits}"
    return None


def _opq(dimension: int, size: int) -> str | None:
    return f"product:{size}" if size * _LEAST_OF_PART <= dimension and dimension % size == 0 else None


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(BASE, "the embeddings, unchanged", lambda _dimension, _size: None),
        Method("pca", "principal components, as floats", _floats("pca")),
        Method(UMAP, "UMAP, as floats", _floats("umap", UMAP_DIMENSION)),
        Method("pca-int8", "principal components, 8 bits each", _pca_then("scalar:8", 1)),
        Method("pca-4bit", "principal components, 4 bits each", _pca_then("scalar:4", 2)),
        Method("rabitq", "principal components by RaBitQ, 1 to 4 bits each", _rabitq),
        Method("opq", "product quantisation after a rotation", _opq),
        Method("itq", "signs of rotated principal components", _bits("binary", ":itq", any_number=False)),
        Method("sign", "signs in random directions", _bits("binary", ":sign")),
        Method("crs", "a layer that is trained on the labels, as floats (R4)", _floats("crs")),
        Method("cbs", "a layer that is trained on the labels, as bits of a sigmoid (R4)", _bits("cbs")),
        Method("dsh", "a layer that is trained on the labels for bits, by DSH (R4)", _bits("dsh")),
        Method("dtsh", "a layer that is trained on the labels for bits, by DTSH (R4)", _bits("dtsh")),
        Method("parametric-umap", "a network that is trained to lay out as UMAP (R4)", _floats("parametric-umap")),
    )
}
"""The methods by name, in the order of the tables."""

EXTRAS = {
    UMAP_SETTINGS: "UMAP by its number of neighbours and its smallest distance",
    UMAP_PARTS: "UMAP fitted to 10 to 100 % of the items",
}
"""Further measurements of UMAP, by name."""


def parse_methods(names: Iterable[str]) -> tuple[str, ...]:
    """Check names of methods and of further measurements; the base is always among them.

    Raises:
        UsageError: a name is unknown.
    """
    known = [*METHODS, *EXTRAS]
    given = tuple(dict.fromkeys((BASE, *names)))
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, 1)
            advice = f"Did you mean {close[0]}?" if close else f"Choose from {', '.join(known)}."
            raise UsageError(f"“{name}” is not a method of a study. {advice}")
    return given
