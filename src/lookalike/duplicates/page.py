"""An HTML page that shows the images of a result side by side, in a single file."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from lookalike import atomic, tables
from lookalike.duplicates import result
from lookalike.duplicates.leaks import Leaks
from lookalike.duplicates.result import Applied, DuplicateGroups, DuplicatePair, Group, Member, Tier
from lookalike.duplicates.source import Source
from lookalike.errors import LookalikeError, StorageError
from lookalike.ingest import absolute_path
from lookalike.metric import Metric, format_distance
from lookalike.parallel import prefetch_map

MAX_SHOWN = 300
"""Maximum number of groups in a section, or of pairs, on a page; the page states how many more there are."""

# Pixels of a thumbnail's side.
_SIDE = 256

Images = Mapping[Path, str]
"""Thumbnails as data URIs, by the path of the image; empty if the image cannot be read."""


def write_page(
    found: DuplicateGroups, path: Path, source: Source, applied: Applied | None = None, images: Images | None = None
) -> None:
    """Write a page that shows groups of duplicates.

    Args:
        found: the groups.
        path: the file, such as ``report.html``.
        source: the collection that was searched.
        applied: what happened to the surplus; none if it was not moved.
        images: the images that `draw` returned before files moved; by default they are drawn now.

    Raises:
        StorageError: the page cannot be written.
    """
    _write(found, path, _duplicates(found, source, applied, draw(found, source) if images is None else images))


def write_leaks(found: Leaks, path: Path, train: Source, test: Source) -> None:
    """Write a page that shows leaks.

    Args:
        found: the leaks.
        path: the file, such as ``report.html``.
        train: the training collection.
        test: the test collection.

    Raises:
        StorageError: the page cannot be written.
    """
    _write(found, path, _leaks(found, train, test))


def _write(found: DuplicateGroups | Leaks, path: Path, values: dict[str, Any]) -> None:
    date = datetime.now(UTC).date().isoformat()
    page = _render(values | {"date": date, "radius": found.radius, "metric": found.metric})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, page.encode(errors="backslashreplace"))  # a name may have bytes that are not UTF-8
    except OSError as e:
        raise StorageError(f"{path} cannot be written: {e.strerror}. Give another path.") from e


def _render(values: dict[str, Any]) -> str:
    import jinja2  # noqa: PLC0415 -- a page is rare, and a start of the command line is not
    from markupsafe import Markup  # noqa: PLC0415 -- as jinja2

    here = files("lookalike.duplicates")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (here / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The style of an evaluation's report, and the additions of this page; both are files of this project.
    styles = (files("lookalike.evaluation") / "report" / "report.css", here / "page.css")
    style = Markup("\n".join(part.read_text(encoding="utf-8") for part in styles))  # noqa: S704 -- as above
    return environment.get_template("page.html").render(values, style=style) + "\n"


# ---- groups


def draw(found: DuplicateGroups, source: Source) -> Images:
    """Draw thumbnails of the images that a page of groups shows."""
    certain, similar = found.of_tier(Tier.IDENTICAL, Tier.NEAR_DUPLICATE), found.of_tier(Tier.SIMILAR)
    shown = [member for groups in (certain, similar) for group in groups[:MAX_SHOWN] for member in group.members]
    return _thumbnails((member.path, source, member) for member in shown)


def _duplicates(found: DuplicateGroups, source: Source, applied: Applied | None, images: Images) -> dict[str, Any]:
    certain, similar = found.of_tier(Tier.IDENTICAL, Tier.NEAR_DUPLICATE), found.of_tier(Tier.SIMILAR)
    parents = {str(absolute_path(member.path).parent) for group in found.groups for member in group.members}
    root = os.path.commonpath(parents) if parents else ""
    sections = (
        ("duplicates", f"The image to keep comes first, with the reason. {_explain(found.surplus, applied)}", certain),
        (
            "similar",
            "Their vectors are near each other, but their pixels do not agree. None of them is moved.",
            similar,
        ),
    )
    return {
        "title": f"Duplicates in {source.folder.name}",
        "lead": f"{found.image_count:,} images compared",
        "figures": [
            ("groups of duplicates", f"{len(certain):,}", "the same bytes, or copies of one image"),
            *_figures_of(found.surplus, applied),
            ("groups of similar images", f"{len(similar):,}", "to look at; none of them is moved"),
        ],
        "sections": [
            {
                "id": ident,
                "root": root,
                "title": ident.capitalize(),
                "explanation": explanation,
                "groups": [
                    _group(group, applied) | {"members": list(_members(group, root, found.metric, applied, images))}
                    for group in groups[:MAX_SHOWN]
                ],
                "more": max(0, len(groups) - MAX_SHOWN),
            }
            for ident, explanation, groups in sections
            if groups
        ],
        "pairs": [],
        "more_pairs": 0,
        "skipped": found.skipped,
    }


def _explain(surplus: Sequence[Member], applied: Applied | None) -> str:
    """Return a sentence on the images that are not kept."""
    if applied is None:
        return "“lookalike duplicates apply” moves the others."
    if not any(map(applied.has_moved, surplus)):
        return "None of the others was moved; the reason is beside each."
    undo = f"“lookalike duplicates undo {applied.trash}” moves them back."
    return f"The others were moved into {applied.trash}, except those marked as left. {undo}"


def _figures_of(surplus: Sequence[Member], applied: Applied | None) -> list[tuple[str, str, str]]:
    """Return the figures about the images that are not kept."""
    if applied is None:
        size = result.format_size(sum(member.facts.size for member in surplus))
        return [
            ("images could go", f"{len(surplus):,}", "each group keeps one"),
            ("would be freed", size, "by moving them away"),
        ]
    moved = [member for member in surplus if applied.has_moved(member)]
    size = result.format_size(sum(member.facts.size for member in moved))
    return [
        ("images moved", f"{len(moved):,}", f"{size}, into {applied.trash}"),
        ("images left", f"{len(surplus) - len(moved):,}", "still in place; the reason is beside each"),
    ]


def _group(group: Group, applied: Applied | None) -> dict[str, Any]:
    surplus = group.surplus
    size = result.format_size(sum(member.facts.size for member in surplus))
    rest = applied.summarise(surplus) if applied else f"{len(surplus):,} could go, {size}"
    return {
        "tier": group.tier,
        "count": f"{len(group.members):,} images",
        "surplus": rest if surplus else "",
    }


def _members(
    group: Group, root: str, metric: Metric, applied: Applied | None, images: Images
) -> Iterator[dict[str, Any]]:
    similar = group.tier is Tier.SIMILAR
    for i, member in enumerate(group.members):
        folder = os.path.relpath(member.path.parent, root)
        outcome = f", {result.verdict(member, applied)}" if applied and not member.kept else ""
        yield {
            "name": member.path.name,
            "folder": "" if folder == "." else folder,
            "kept": member.kept and not similar,
            "verdict": "similar" if similar else "keep" if member.kept else f"{member.tier}{outcome}",
            "reason": (applied.reason(member) if applied and not similar else "") or member.reason,
            "facts": (
                f"{member.facts.width} × {member.facts.height}",
                result.format_size(member.facts.size),
                member.facts.date,
            ),
            "orientation": result.describe(member.orientation),
            "distance": f"{_distance(member.distance, metric)} away" if i and member.distance else "",
            "thumbnail": images[member.path],
        }


# ---- pairs


def _leaks(found: Leaks, train: Source, test: Source) -> dict[str, Any]:
    shown = found.pairs[:MAX_SHOWN]
    thumbnails = _thumbnails((path, None, None) for pair in shown for path in (pair.left, pair.right))
    meanings = {
        Tier.IDENTICAL: "the same bytes in both",
        Tier.NEAR_DUPLICATE: "two copies of one image",
        Tier.SIMILAR: "to look at: perhaps copies of one image",
    }
    leaked = sum(found.leaked.values())
    return {
        "title": f"{test.folder.name} in {train.folder.name}",
        "lead": f"{leaked:,} of the {found.test_count:,} images of {test.folder.name} are among the {found.train_count:,} of"
        f" {train.folder.name}",
        "figures": [(str(tier), f"{found.leaked[tier]:,}", meanings[tier]) for tier in Tier],
        "sections": [],
        "pairs": [_pair(pair, found.metric, thumbnails) for pair in shown],
        "more_pairs": max(0, len(found.pairs) - MAX_SHOWN),
        "skipped": found.skipped,
    }


def _pair(pair: DuplicatePair, metric: Metric, thumbnails: dict[Path, str]) -> dict[str, Any]:
    return {
        "tier": pair.tier,
        "sides": [{"thumbnail": thumbnails[path], "path": str(path)} for path in (pair.left, pair.right)],
        "distance": _distance(pair.distance, metric),
        "orientation": result.describe(pair.orientation),
    }


def _distance(distance: float, metric: Metric) -> str:
    return format_distance(distance, metric) + (" bits" if metric is Metric.HAMMING else "")


# ---- thumbnails

_Shown = tuple[Path, Source | None, Member | None]
"""An image file; for a member of a group, also its collection and the member."""


def _thumbnails(shown: Iterable[_Shown]) -> dict[Path, str]:
    """Return a data URI for each path; empty if the image cannot be read."""
    tasks: Sequence[_Shown] = list({task[0]: task for task in shown}.values())
    return dict(zip((path for path, _, _ in tasks), prefetch_map(_thumbnail, tasks), strict=True))


def _thumbnail(task: _Shown) -> str:
    path, source, member = task
    if source is None or member is None:
        return result.thumbnail_uri(path, _SIDE)
    try:
        return tables.jpeg_uri(source.folder.thumbnail(member.item, _SIDE))  # the collection caches it
    except LookalikeError:
        return ""
