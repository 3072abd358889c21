"""Choose the image of a group to keep, and give the reasons."""

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from lookalike import images
from lookalike.duplicates.result import FileFacts
from lookalike.duplicates.source import Failure, Source
from lookalike.errors import LookalikeError, UsageError
from lookalike.parallel import prefetch_map
from lookalike.progress import SILENT, Progress
from lookalike.stores import Item

MISSING = "it is missing"
"""The reason why a file that does not exist is skipped."""

# Images in a reading thread's task; reading one header takes less time than passing a task to a thread.
_TASK = 32


@dataclass(frozen=True)
class KeepRule:
    """A rule that scores files; the file with the highest score is kept.

    Attributes:
        name: the property that is scored.
        glob: for ``path``, the pattern of paths to prefer.
    """

    name: Literal["resolution", "size", "oldest", "newest", "path"]
    glob: str = ""

    @classmethod
    def parse(cls, text: str) -> "tuple[KeepRule, ...]":
        """Read rules in order, such as ``resolution,size,path:originals/*``.

        Raises:
            UsageError: a rule is unknown.
        """
        return tuple(map(cls._parse_one, text.split(",")))

    @classmethod
    def _parse_one(cls, text: str) -> "KeepRule":
        name, _, glob = text.strip().partition(":")
        match name:
            case "resolution" | "size" | "oldest" | "newest" if not glob:
                return cls(name)
            case "path" if glob:
                return cls(name, glob)
        raise UsageError(
            f"“{text.strip()}” is not a rule for which image to keep. Use resolution, size, oldest, newest or path:GLOB,"
            " such as path:originals/*, separated by commas."
        )

    def score(self, path: Path, facts: FileFacts) -> int:
        """Score a file."""
        match self.name:
            case "resolution":
                return facts.width * facts.height
            case "size":
                return facts.size
            case "oldest":
                return -facts.modified
            case "newest":
                return facts.modified
            case "path":
                # A relative glob may begin at any folder.
                glob = self.glob if self.glob.startswith("/") else f"*/{self.glob}"
                return int(fnmatchcase(path.as_posix(), glob))

    def reason(self, facts: FileFacts) -> str:
        """Describe what makes a file the best one."""
        match self.name:
            case "resolution":
                return f"highest resolution, {facts.width} × {facts.height}"
            case "size":
                return f"largest file, {facts.size:,} bytes"
            case "oldest":
                return f"oldest, of {facts.date}"
            case "newest":
                return f"newest, of {facts.date}"
            case "path":
                return f"path matches {self.glob}"


DEFAULT_RULES = KeepRule.parse("resolution,size,oldest")
"""The default rules: most pixels, then most bytes, then oldest."""


def choose(files: Sequence[tuple[Path, FileFacts]], rules: Sequence[KeepRule]) -> tuple[int, str]:
    """Choose the file to keep.

    Each rule keeps the best of the files that the previous rule kept. If several files remain, the first path wins.

    Args:
        files: at least one path, with the facts of the file.
        rules: the rules, in the order in which they apply.

    Returns:
        The index of the file, and a description of the rules that decided.
    """
    candidates = list(range(len(files)))
    reasons: list[str] = []
    for rule in rules:
        scores = {i: rule.score(*files[i]) for i in candidates}
        best = [i for i in candidates if scores[i] == max(scores.values())]
        if len(best) < len(candidates):
            reasons.append(rule.reason(files[best[0]][1]))
        candidates = best
    chosen = min(candidates, key=lambda i: str(files[i][0]))
    if len(candidates) > 1:
        reasons.append("first path")
    return chosen, "; ".join(reasons)


def inspect_files(
    source: Source, items: Sequence[Item], progress: Progress = SILENT
) -> tuple[dict[str, FileFacts], list[Failure]]:
    """Read the facts of files that can be kept or moved, and skip the others.

    The function skips files that are missing or have changed since they were indexed. It also skips links: moving the
    target of a link would break it. If two names belong to one file, it skips the second: moving one would move both.

    Args:
        source: the collection of the items.
        items: the items, each once.
        progress: receives the stage ``"inspecting files"``.

    Returns:
        The facts of files by the item's id, and the skipped files with the reasons.
    """
    facts: dict[str, FileFacts] = {}
    skipped: list[Failure] = []

    def inspect(task: Sequence[Item]) -> list[FileFacts | str]:
        return [_inspect(source.folder.file(item), item) for item in task]

    tasks = [items[i : i + _TASK] for i in range(0, len(items), _TASK)]
    done = 0
    for task, results in zip(tasks, prefetch_map(inspect, tasks), strict=True):
        for item, result in zip(task, results, strict=True):
            if isinstance(result, FileFacts):
                facts[item.id] = result
            else:
                skipped.append((source.folder.file(item), result))
        done += len(task)
        progress.advance("inspecting files", done, len(items))
    first_names: dict[tuple[int, int], Item] = {}
    for item in items:
        if item.id in facts and (first := first_names.setdefault(facts[item.id].inode, item)) is not item:
            skipped.append((source.folder.file(item), f"it is the same file as {source.folder.file(first)}"))
            del facts[item.id]
    return facts, skipped


def _inspect(path: Path, item: Item) -> FileFacts | str:
    """Return the facts of a file, or why it is skipped."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return f"it is a link to {path.readlink()}"
        if not _is_unchanged(path, item):
            return "it has changed since it was indexed; index again"
        width, height = images.dimensions(path)
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as e:
        return f"it cannot be read: {e.strerror}"
    except LookalikeError as e:
        return str(e)
    return FileFacts(width, height, status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino))


def _is_unchanged(path: Path, item: Item) -> bool:
    """Return whether a file's content is that of its item; read the content only if its size or times differ.

    Raises:
        OSError, LookalikeError: the file cannot be read.
    """
    status = path.stat()
    if item.signature == f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}":
        return True
    return images.fingerprint(images.read_bytes(path)) == item.sha256
