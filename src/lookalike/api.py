"""The functions of the front door, ``import lookalike as la``: one for each task that needs no open collection."""

import os
from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np

from lookalike import compare, encoders
from lookalike.collection import Collection, to_path
from lookalike.compare import Ranking, Verdict
from lookalike.embedding import Embedder, to_batch
from lookalike.encoders import Encoder
from lookalike.evaluation.fewshot import ClassifyBy
from lookalike.images import ImageSource
from lookalike.joins import JoinPairs
from lookalike.query import Branch, Within

EncoderSource = str | os.PathLike[str] | Encoder
"""An encoder: a name, a folder, ``hf://org/repo``, or a loaded one."""


def load_encoder(name: EncoderSource = encoders.DEFAULT) -> Encoder:
    """Load an encoder.

    Args:
        name: of a bundled encoder; the folder of an encoder, a training run or a collection; or ``hf://org/repo``.

    Raises:
        NotFoundError: there is no such encoder.
        EncoderError: its files are damaged.

    Example:
        >>> la.load_encoder("toyshop").card.dimension
        128
    """
    return name if isinstance(name, Encoder) else encoders.load(name)


def embed(
    image: ImageSource | Sequence[ImageSource], *, encoder: EncoderSource = encoders.DEFAULT, sketch: bool = False
) -> np.ndarray:
    """Embed an image, or a list of images.

    Args:
        image: an image (a path, the content of a file, a Pillow image or a uint8 array), or a list of them.
        encoder: a name, a folder, ``hf://org/repo``, or a loaded encoder.
        sketch: the images are sketches.

    Returns:
        ``(d,)`` for one image, ``(n, d)`` for a list; float32, or packed bits in uint8.

    Raises:
        ImageError, NotFoundError: an image cannot be used.
        UsageError: the encoder does not take sketches, or something is not an image.

    Example:
        >>> la.embed("mug.jpg").shape
        (128,)
        >>> la.embed(["mug.jpg", "other.jpg"]).shape
        (2, 128)
    """
    batch, single = to_batch(image)
    vectors = Embedder.of(load_encoder(encoder)).embed(batch, _to_branch(sketch))
    return np.asarray(vectors[0]) if single else vectors


def verify(
    left: ImageSource,
    right: ImageSource,
    *,
    encoder: EncoderSource = encoders.DEFAULT,
    within: Within | None = None,
    far: float | None = None,
    sketch: bool = False,
) -> Verdict:
    """Decide whether two images show the same thing.

    Args:
        left: an image.
        right: another one, a photo.
        encoder: a name, a folder, ``hf://org/repo``, or a loaded encoder.
        within: the largest distance of the same thing, as ``0.35``, or the smallest similarity, as ``"80%"``. By default
            the calibrated threshold.
        far: the threshold of this false accept rate in place of ``within``.
        sketch: the left image is a sketch.

    Raises:
        ImageError, NotFoundError: one of them cannot be used.
        UsageError: the threshold is invalid, or the encoder is not calibrated for the rate.

    Example:
        >>> la.verify("mug.jpg", "mug.jpg", encoder="copies").same
        True
        >>> print(la.verify("mug.jpg", "other.jpg", within="80%"))
        different: distance 0.757 (euclidean), similarity 56.9%, threshold 0.25
    """
    embedder, branch = Embedder.of(load_encoder(encoder)), _to_branch(sketch)
    return compare.verify(embedder, left, right, compare.find_threshold(embedder, within, far, branch), branch)


@overload
def classify(  # type: ignore[overload-overlap]  # a str is one image, though it is a sequence of str
    image: ImageSource,
    support: "str | os.PathLike[str] | Mapping[str, Sequence[str | os.PathLike[str]]]",
    *,
    encoder: EncoderSource = ...,
    by: ClassifyBy = ...,
    sketch: bool = ...,
) -> Ranking: ...


@overload
def classify(
    image: Sequence[ImageSource],
    support: "str | os.PathLike[str] | Mapping[str, Sequence[str | os.PathLike[str]]]",
    *,
    encoder: EncoderSource = ...,
    by: ClassifyBy = ...,
    sketch: bool = ...,
) -> list[Ranking]: ...


def classify(
    image: ImageSource | Sequence[ImageSource],
    support: "str | os.PathLike[str] | Mapping[str, Sequence[str | os.PathLike[str]]]",
    *,
    encoder: EncoderSource = encoders.DEFAULT,
    by: ClassifyBy = "example",
    sketch: bool = False,
) -> Ranking | list[Ranking]:
    """Classify images from a few labelled examples per class (k-way n-shot); see `lookalike.compare.classify`.

    Args:
        image: an image, or a list of them.
        support: a folder with a folder of examples for each class; or class → image files. Examples that cannot be used are
            skipped.
        encoder: a name, a folder, ``hf://org/repo``, or a loaded encoder. It need not have seen the classes.
        by: compare with every example, or with the mean of a class's examples (``"prototype"``).
        sketch: the images are sketches.

    Returns:
        The classes, nearest first; a list of rankings if a list was given.

    Raises:
        ImageError, NotFoundError: an image cannot be used.
        DataError: there are no classes, or one has no usable example.

    Example:
        >>> la.classify("mug.jpg", "photos").label
        'mug'
    """
    embedder = Embedder.of(load_encoder(encoder))
    examples = (
        {label: [to_path(path) for path in paths] for label, paths in support.items()}
        if isinstance(support, Mapping)
        else compare.find_examples(to_path(support))
    )
    queries, single = to_batch(image)
    answers = compare.classify(embedder, queries, examples, by=by, branch=_to_branch(sketch)).answers
    return answers[0] if single else list(answers)


def join(
    left: "Collection | str | os.PathLike[str]",
    right: "Collection | str | os.PathLike[str] | None" = None,
    *,
    k: int | None = None,
    within: Within | None = None,
    far: float | None = None,
    approximate: bool = False,
) -> JoinPairs:
    """Pair the items of two collections, or of one, that look alike; see `Collection.join`.

    Args:
        left: a collection, or its folder.
        right: another one; without it the left one is joined with itself.
        k: pair each item on the left with its k nearest on the right.
        within: pair all items in this range of distances, as ``0.1`` or ``"90%"``.
        far: pair all items within the distance of this false accept rate.
        approximate: use an index; its recall is measured.

    Raises:
        NotFoundError: there is no such collection.
        MismatchError: different encoders or metrics made the two.
        UsageError: not exactly one of k, within and far is given, or its value is invalid.

    Example:
        >>> pairs = la.join("shop", within="60%")
        >>> for pair in pairs:
        ...     assert pair.distance <= 0.67
    """
    one = _to_collection(left)
    other = None if right is None else _to_collection(right)
    return one.join(other, k=k, within=within, far=far, approximate=approximate)


def _to_collection(source: "Collection | str | os.PathLike[str]") -> Collection:
    return source if isinstance(source, Collection) else Collection.open(source)


def _to_branch(sketch: bool) -> Branch:
    return "sketch" if sketch else "photo"
