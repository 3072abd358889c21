"""What a command searches for: images in files, folders and standard input, or a text."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lookalike import images
from lookalike.cli.options import check_local
from lookalike.errors import ImageError, NotFoundError, StorageError
from lookalike.progress import Progress
from lookalike.query import Branch, Query
from lookalike.stores import Answer
from lookalike.unicode_forms import to_path

if TYPE_CHECKING:
    from lookalike.collection import Collection

# Queries that are searched at a time: the answers of more would only take memory.
_BATCH = 256


@dataclass(frozen=True)
class Source:
    """An image or a text to search for.

    Attributes:
        name: path of the image as it was given, or found in a folder; “-” for standard input; or the text.
        image: its path, or its content from standard input; none for a text.
    """

    name: str
    image: Path | bytes | None

    @property
    def path(self) -> Path | None:
        """Its path, if it has one."""
        return self.image if isinstance(self.image, Path) else None

    def to_query(self, query: Query) -> Query:
        """Return the query for this image or text."""
        if self.image is None:
            return replace(query, texts=[self.name])
        return replace(query, images=[self.image])


@dataclass(frozen=True)
class Answered:
    """An image or a text that was searched for, with its answer or with the reason why it has none."""

    source: Source
    answer: Answer | None = None
    error: str = ""

    @property
    def name(self) -> str:
        """The name of the image, or the text."""
        return self.source.name

    @property
    def path(self) -> Path | None:
        """The path of the image."""
        return self.source.path


def is_single(given: Sequence[str]) -> bool:
    """Return whether the arguments name one image, whose answer is not a list."""
    return len(given) == 1 and not to_path(given[0]).is_dir()


def list_images(folder: Path, *, several: bool, drawings: bool = False) -> tuple[Sequence[Path], str]:
    """List the images of a folder, in order of their paths.

    Args:
        folder: the folder.
        several: whether the note names the folder, because a command has several arguments.
        drawings: also list JSON files, which may hold strokes.

    Returns:
        The images, and a note that counts the other files, which is empty if there are none.
    """
    found = images.survey(folder, drawings=drawings)
    note = images.describe_not_taken(found.not_taken)
    return found.paths, f"{folder}: {note}" if note and several else note


def find(given: Sequence[str], *, drawings: bool = False) -> tuple[list[Source], list[str]]:
    """Find the images that the arguments name, those of folders in order of their paths.

    Args:
        given: files and folders.
        drawings: also find the JSON files of folders, which may hold strokes.

    Returns:
        The images, and for each folder with other files a sentence that counts them.

    Raises:
        UsageError: an argument is a web address or empty.
        NotFoundError: a folder has no images.
    """
    sources: list[Source] = []
    notes: list[str] = []
    for argument in given:
        check_local(argument)
        if argument == "-":
            sources.append(Source("-", sys.stdin.buffer.read()))
        elif (path := to_path(argument)).is_dir():
            found, note = list_images(path, several=len(given) > 1, drawings=drawings)
            if not found:
                if not drawings and images.find(path, drawings=True):
                    note = f"{note} To search by its drawings (.json), add --sketch.".lstrip()
                raise NotFoundError(f"There are no images in the folder {argument}. {note}".rstrip())
            sources += [Source(str(image), image) for image in found]
            notes += [note] if note else []
        else:
            sources.append(Source(argument, path))
    return sources, notes


def answer(
    collection: "Collection",
    query: Query,
    sources: Sequence[Source],
    branches: Sequence[Branch],
    progress: Progress,
    *,
    single: bool,
) -> list[Answered]:
    """Answer a query for each image; embed and search those of one branch together.

    Args:
        collection: is searched.
        query: the query without images and texts.
        sources: the images, or one text.
        branches: the branch of each.
        progress: receives the stages ``"embedding"`` and ``"searching"``.
        single: raise the error of the only image or text.

    Returns:
        An answer for each image, or the reason why it cannot be used.

    Raises:
        ImageError, NotFoundError: the only image cannot be used.
    """
    if single:
        (only,) = collection.answer(sources[0].to_query(replace(query, branch=branches[0])))
        return [Answered(sources[0], only)]
    found = dict[int, Answered]()
    for branch in sorted(set(branches)):
        rows = [row for row, own in enumerate(branches) if own == branch]
        part = _answer(collection, replace(query, branch=branch), [sources[row] for row in rows], progress)
        found |= zip(rows, part, strict=True)
    return [found[row] for row in range(len(sources))]


def _answer(collection: "Collection", query: Query, sources: Sequence[Source], progress: Progress) -> list[Answered]:
    """Answer a query for each image, all of one branch."""
    results = _embed(collection, query, sources, progress)
    found = [Answered(source, error=result if isinstance(result, str) else "") for source, result in results]
    usable = [(i, result) for i, (_, result) in enumerate(results) if not isinstance(result, str)]
    for start in range(0, len(usable), _BATCH):
        batch = usable[start : start + _BATCH]
        vectors = np.stack([vector for _, (vector, _) in batch])
        for (i, (_, blank)), one in zip(batch, collection.answer(replace(query, vectors=vectors)), strict=True):
            found[i] = Answered(sources[i], replace(one, branch=query.known_branch, blank=blank))
        progress.advance("searching", start + len(batch), len(usable))
    return found


def _embed(
    collection: "Collection", query: Query, sources: Sequence[Source], progress: Progress
) -> list[tuple[Source, tuple[np.ndarray, bool] | str]]:
    """Return the vector of each image and whether it has one colour only, or the reason why it cannot be used."""
    embedder = collection.embedder_for(rescore=query.rescore)
    paths = [source.image for source in sources if isinstance(source.image, Path)]
    embedded = embedder.embed_files(paths, query.known_branch, progress)
    failures, usable = dict(embedded.failures), zip(embedded.vectors, embedded.blank, strict=True)

    def embed(image: Path | bytes | None) -> tuple[np.ndarray, bool] | str:
        assert image is not None  # noqa: S101 -- a text is the only source
        if isinstance(image, Path):
            return failures[image] if image in failures else next(usable)
        try:
            (vector,), (blank,) = embedder.embed_queries([image], query.known_branch)
        except (ImageError, NotFoundError, StorageError) as e:
            return str(e)
        return vector, blank

    return [(source, embed(source.image)) for source in sources]
