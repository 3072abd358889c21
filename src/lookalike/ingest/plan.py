"""Planning of ingest: list the images to add, from a folder, files or images in memory."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from lookalike import images
from lookalike.errors import UsageError
from lookalike.images import ImageInMemory, ImageSource, NotTaken
from lookalike.images.sources import check_source
from lookalike.ingest.labels import read_labels
from lookalike.ingest.paths import absolute_path
from lookalike.unicode_forms import find_existing, to_path

OnError = Callable[[OSError], None]


@dataclass(frozen=True, eq=False)
class Entry:
    """An image to add, with its label and attributes.

    Without a label and attributes, an existing item keeps its own.

    Attributes:
        path: of the file; for an image in memory its name in messages, such as ``#3``.
        label: its class.
        attributes: more properties, by name.
        id: of the item; by default derived from the path, or from the content of an image in memory.
        image: an image in memory, whose content is kept in the collection's folder.
    """

    path: Path
    label: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    id: str | None = None
    image: ImageInMemory | None = None


Source = ImageSource | Sequence[ImageSource | Entry]
"""Images to add: the path of a folder, one image, or a sequence of images."""

Labels = str | os.PathLike[str] | Sequence[str | None]
"""The source of labels: ``"folder"``, the path of a CSV, or one label for each image of a sequence."""


class Plan(list[Entry]):
    """Images to add, and what there is to say about their folder.

    Attributes:
        not_taken: the files of the folder that show something but are not taken, such as videos, by kind.
        notes: sentences about the labels.
    """

    def __init__(
        self, entries: Iterable[Entry] = (), not_taken: Sequence[NotTaken] = (), notes: Sequence[str] = ()
    ) -> None:
        """Make a plan."""
        super().__init__(entries)
        self.not_taken, self.notes = tuple(not_taken), tuple(notes)


def plan(source: Source, labels: Labels | None = None, on_error: OnError | None = None) -> Plan:
    """List the images to add.

    Args:
        source: a folder, which is listed as by `images.find`; an image file; an image in memory; or a sequence of images.
        labels: for a folder, ``"folder"`` or the path of a CSV. ``"folder"`` labels each image by the first folder in its
            path (``cat/sub/1.jpg`` is a cat). In a CSV, the column ``path`` is relative to the folder or to the CSV,
            ``label`` is optional, and all other named columns are attributes. Images that are not in the CSV get no label
            and no attributes. For a sequence of images, a sequence of labels of the same length.
        on_error: receives the error of each sub-folder that cannot be listed; by default, errors are logged.

    Raises:
        NotFoundError: the folder, the file or the CSV does not exist.
        DataError: the CSV has no column ``path`` or two of one name, gives an image two different values, or names none of the
            images.
        UsageError: a source is not an image, its path is empty, or the labels do not fit the source.
    """
    if isinstance(source, Plan) and labels is None:
        return source
    if isinstance(source, str | os.PathLike):
        path = to_path(source)
        if isinstance(labels, str | os.PathLike) or not os.path.isfile(path):  # noqa: PTH113 -- false for a name that is too long, too
            return _plan_folder(path, labels, on_error)
        source = [path]
    elif not isinstance(source, Sequence) or isinstance(source, bytes):
        source = [source]
    return _plan_sequence(source, labels)


def resolve_links(planned: Plan, roots: Sequence[Path]) -> Plan:
    """Resolve the links on the way to the files below some folders, whose items have them resolved."""

    @cache
    def resolve(folder: Path) -> Path:
        real = Path(os.path.realpath(folder))
        return real if any(real.is_relative_to(root) for root in roots) else folder

    entries = (e if e.image is not None else replace(e, path=resolve(e.path.parent) / e.path.name) for e in planned)
    return Plan(entries, planned.not_taken, planned.notes)


def _plan_folder(folder: Path, labels: Labels | None, on_error: OnError | None) -> Plan:
    folder = absolute_path(folder)
    found = images.survey(folder, on_error)
    paths = found.paths
    if labels is None:
        return Plan(map(Entry, paths), found.not_taken)
    if not isinstance(labels, str | os.PathLike):
        raise UsageError(
            "The labels of a folder are “folder” or the path of a CSV file. To give each image its own label, add a list"
            " of images."
        )
    if labels == "folder":
        names = [p.relative_to(folder).parts for p in paths]
        return Plan(
            (Entry(p, parts[0] if len(parts) > 1 else None) for p, parts in zip(paths, names, strict=True)),
            found.not_taken,
        )
    table = read_labels(to_path(labels), folder, paths)
    planned = []
    for path in paths:
        row = dict(table.values.get(path, {}))
        planned.append(Entry(path, row.pop("label", None), row))
    return Plan(planned, found.not_taken, table.notes)


def _plan_sequence(sources: Sequence[ImageSource | Entry], labels: Labels | None) -> Plan:
    if isinstance(labels, str | os.PathLike):
        raise UsageError(
            f"The labels “{os.fspath(labels)}” are for a folder of images. For images, give a list with one label for"
            f" each, such as labels=[{os.fspath(labels)!r}]."
        )
    if labels is not None and not isinstance(labels, Sequence):
        raise UsageError(f"The labels of images are a list, one for each, not {type(labels).__name__}.")
    if labels is not None and len(labels) != len(sources):
        raise UsageError(f"There are {len(labels)} labels for {len(sources)} images. Give one for each, or None.")
    planned = Plan()
    for i, (source, label) in enumerate(zip(sources, [None] * len(sources) if labels is None else labels, strict=True)):
        if isinstance(source, Entry):
            planned.append(source if label is None else replace(source, label=label))
        elif isinstance(source, str | os.PathLike):
            planned.append(Entry(find_existing(Path(source)), label))
        elif isinstance(source, ImageInMemory):
            planned.append(Entry(Path(f"#{i + 1}"), label, image=source))
        else:
            check_source(source)  # raises a UsageError with the reason
    return planned
