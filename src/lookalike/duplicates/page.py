"""What was found as one page with the pictures side by side, which needs nothing else."""

import base64
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from lookalike import atomic
from lookalike.collection import Collection
from lookalike.duplicates.finding import Duplicates, Group, Member, PairFound
from lookalike.duplicates.leaks import Leaks
from lookalike.duplicates.tiers import Tier
from lookalike.duplicates.turning import Turn
from lookalike.errors import LookalikeError, MissingExtraError, StorageError
from lookalike.images import load, thumbnail
from lookalike.metric import Metric
from lookalike.parallel import prefetch_map

MOST = 300
"""Groups, or pairs, that the page has room for; it says how many more there are."""

_SIDE = 256


def write(found: Duplicates | Leaks, path: Path, collection: Collection, other: Collection | None = None) -> None:
    """Write the page.

    Args:
        found: what it shows.
        path: the file, such as ``report.html``.
        collection: where it was found.
        other: of leaks, the second collection.

    Raises:
        MissingExtraError: without the extra “report”.
        StorageError: it cannot be written.
    """
    if isinstance(found, Leaks):
        values = _leaks(found, collection, other or collection)
    else:
        values = _duplicates(found, collection)
    page = _render(
        values | {"date": datetime.now(UTC).date().isoformat(), "reach": found.reach, "metric": found.metric}
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, page.encode())
    except OSError as e:
        raise StorageError(f"{path} cannot be written: {e.strerror}. Give another place.") from e


def require() -> None:
    """MissingExtraError where a page could not be made; to be asked before the work."""
    try:
        import jinja2  # noqa: F401, PLC0415 -- an extra
    except ImportError as e:
        raise MissingExtraError("report", "A page of duplicates") from e


def _render(values: dict[str, Any]) -> str:
    require()
    import jinja2  # noqa: PLC0415 -- an extra
    from markupsafe import Markup  # noqa: PLC0415 -- comes with jinja2

    here = files("lookalike.duplicates")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (here / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The look of the report of an evaluation, and what this page has beside it; both are this package's own.
    styles = (files("lookalike.evaluation") / "report" / "report.css", here / "page.css")
    style = Markup("\n".join(part.read_text(encoding="utf-8") for part in styles))  # noqa: S704 -- as above
    return environment.get_template("page.html").render(values, style=style) + "\n"


def _duplicates(found: Duplicates, collection: Collection) -> dict[str, Any]:
    surplus = [member for group in found.groups for member in group.surplus]
    certain = [group for group in found.groups if group.tier is not Tier.SIMILAR]
    similar = [group for group in found.groups if group.tier is Tier.SIMILAR]
    pictures = _pictures(
        [(collection, m) for groups in (certain, similar) for group in groups[:MOST] for m in group.members]
    )
    parents = {str(member.path.parent) for group in found.groups for member in group.members}
    root = os.path.commonpath(parents) if parents else ""
    return {
        "title": f"Duplicates in {collection.name}",
        "lead": f"{found.pictures:,} pictures compared",
        "heroes": [
            ("groups of duplicates", f"{len(certain):,}", "identical bytes, or one picture saved twice"),
            ("pictures could go", f"{len(surplus):,}", "each group keeps one"),
            ("would be freed", size(sum(member.facts.size for member in surplus)), "by moving them away"),
            ("groups of similar ones", f"{len(similar):,}", "to be looked at; none of them is offered"),
        ],
        "sections": [
            {
                "id": name,
                "root": root,
                "title": title,
                "how": how,
                "groups": [_group(group, found.metric, pictures, root) for group in groups[:MOST]],
                "more": max(0, len(groups) - MOST),
            }
            for name, title, how, groups in (
                (
                    "duplicates",
                    "Duplicates",
                    "The picture to keep comes first, and why. Nothing is moved before --apply.",
                    certain,
                ),
                (
                    "similar",
                    "Similar",
                    "Alike to the encoder, but their pixels do not agree. Nothing of these is moved.",
                    similar,
                ),
            )
            if groups
        ],
        "pairs": [],
        "more_pairs": 0,
        "left_out": found.left_out,
    }


def _group(group: Group, metric: Metric, pictures: dict[Path, str], root: str) -> dict[str, Any]:
    surplus = group.surplus
    offered = f"{len(surplus):,} could go, {size(sum(m.facts.size for m in surplus))}" if surplus else ""
    return {
        "tier": group.tier,
        "count": f"{len(group.members):,} pictures",
        "offered": offered,
        "members": [
            _member(member, i, group, metric=metric, pictures=pictures, root=root)
            for i, member in enumerate(group.members)
        ],
    }


def _member(
    member: Member, place: int, group: Group, *, metric: Metric, pictures: dict[Path, str], root: str
) -> dict[str, Any]:
    similar = group.tier is Tier.SIMILAR
    return {
        "picture": pictures[member.path],
        "name": member.path.name,
        "folder": "" if (folder := os.path.relpath(member.path.parent, root)) == "." else folder,
        "kept": member.kept and not similar,
        "verdict": "similar" if similar else "keep" if member.kept else member.tier,
        "why": member.why,
        "facts": (f"{member.facts.width} × {member.facts.height}", size(member.facts.size), member.facts.date),
        "distance": f"{_distance(member.distance, metric)} away" if place and member.distance else "",
        "turn": "" if member.turn is Turn.NONE else member.turn,
    }


def _leaks(found: Leaks, train: Collection, test: Collection) -> dict[str, Any]:
    shown = found.pairs[:MOST]
    pictures = _pictures([(c, p) for pair in shown for c, p in ((train, pair.left), (test, pair.right))])
    meanings = {
        Tier.IDENTICAL: "the same bytes in both",
        Tier.NEAR: "one picture, saved twice",
        Tier.SIMILAR: "perhaps one picture; to be looked at",
    }
    leaked = sum(found.leaked.values())
    return {
        "title": f"{test.name} in {train.name}",
        "lead": f"{leaked:,} of the {found.right:,} pictures of {test.name} are among the {found.left:,} of {train.name}",
        "heroes": [(str(tier), f"{found.leaked[tier]:,}", meanings[tier]) for tier in Tier],
        "sections": [],
        "pairs": [_pair(pair, found.metric, pictures) for pair in shown],
        "more_pairs": max(0, len(found.pairs) - MOST),
        "left_out": found.left_out,
    }


def _pair(pair: PairFound, metric: Metric, pictures: dict[Path, str]) -> dict[str, Any]:
    return {
        "tier": pair.tier,
        "sides": [{"picture": pictures[path], "path": str(path)} for path in (pair.left, pair.right)],
        "distance": _distance(pair.distance, metric),
        "turn": "" if pair.turn is Turn.NONE else pair.turn,
    }


def _distance(distance: float, metric: Metric) -> str:
    return f"{distance:.0f} bits" if metric is Metric.HAMMING else f"{distance:.3g}"


def size(count: int) -> str:
    """Bytes as people write them, in powers of 1000."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:  # noqa: PLR2004 -- as above
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


_Shown = tuple[Collection, Member | Path]


def _pictures(shown: Iterable[_Shown]) -> dict[Path, str]:
    """Path → its thumbnail as a data URI; empty where there is none to be had."""
    tasks = list({(one.path if isinstance(one, Member) else one): (c, one) for c, one in shown}.items())
    return dict(zip((path for path, _ in tasks), prefetch_map(_thumbnail, [task for _, task in tasks]), strict=True))


def _thumbnail(task: _Shown) -> str:
    collection, one = task
    try:
        if isinstance(one, Member):
            small = collection.thumbnail(one.item, _SIDE)
        else:
            small = thumbnail(load(one, _SIDE, "pad"), _SIDE)
    except LookalikeError:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"
