"""Which picture of a group is kept, and why."""

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import starmap
from pathlib import Path
from typing import Literal

from lookalike import images
from lookalike.collection import Collection
from lookalike.errors import LookalikeError, UsageError
from lookalike.parallel import prefetch_map
from lookalike.stores import Item

# Pictures of a task for a reading thread: a header is read in less time than a task is handed over.
_TASK = 32


@dataclass(frozen=True)
class Facts:
    """What is known of a file.

    Attributes:
        width: in pixels, upright.
        height: in pixels.
        size: in bytes.
        modified: when it was last written, in nanoseconds since 1970.
        inode: device and number of the file, the same for two names of one file.
    """

    width: int
    height: int
    size: int
    modified: int
    inode: tuple[int, int]

    @property
    def date(self) -> str:
        """The day of `modified`, in UTC."""
        return datetime.fromtimestamp(self.modified / 1e9, UTC).date().isoformat()


Known = tuple[Path, Facts]
"""A file and what is known of it."""


@dataclass(frozen=True)
class Rule:
    """What makes one file better than another; see `RULES`."""

    name: Literal["resolution", "size", "oldest", "newest", "path"]
    glob: str = ""

    @classmethod
    def parse(cls, text: str) -> "tuple[Rule, ...]":
        """Rules in order, as ``resolution,size,path:originals/*``.

        Raises:
            UsageError: there is no such rule.
        """
        return tuple(map(cls._parse_one, text.split(",")))

    @classmethod
    def _parse_one(cls, text: str) -> "Rule":
        name, _, glob = text.strip().partition(":")
        match name:
            case "resolution" | "size" | "oldest" | "newest" if not glob:
                return cls(name)
            case "path" if glob:
                return cls(name, glob)
        raise UsageError(
            f"“{text.strip()}” is no rule for what to keep; take resolution, size, oldest, newest or path:GLOB, such as"
            " path:originals/*, separated by commas."
        )

    def score(self, path: Path, facts: Facts) -> int:
        """The higher the better."""
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
                # A glob that does not begin at the root may begin at any folder.
                glob = self.glob if self.glob.startswith("/") else f"*/{self.glob}"
                return int(fnmatchcase(path.as_posix(), glob))

    def praise(self, facts: Facts) -> str:
        """What to say of the best."""
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


RULES = Rule.parse("resolution,size,oldest")
"""What is applied where nothing else is said: the most pixels, of these the most bytes, of these the oldest."""


def best(files: Sequence[Known], rules: Sequence[Rule]) -> tuple[int, str]:
    """The place of the file to keep, and the rules that chose it, in words.

    A rule matters only where those before it leave several. Where all do, the first path counts.

    Args:
        files: one at least.
        rules: the first comes first.
    """
    left = list(range(len(files)))
    why: list[str] = []
    for rule in rules:
        scores = {i: rule.score(*files[i]) for i in left}
        high = max(scores.values())
        better = [i for i in left if scores[i] == high]
        if len(better) < len(left):
            why.append(rule.praise(files[better[0]][1]))
        left = better
    chosen = min(left, key=lambda i: str(files[i][0]))
    if len(left) > 1:
        why.append("first path")
    return chosen, "; ".join(why)


def look(
    collection: Collection,
    items: Sequence[Item],
    tell: Callable[[int, int], None] = lambda *_: None,
) -> tuple[dict[str, Facts], list[tuple[Path, str]]]:
    """What is known of the files of items, by id; and those that may be neither kept nor moved, with the reason.

    These are files that have gone or changed since they were indexed, and links, which would be all that is left of the
    picture. Of two names of one file only the first is looked at: to move the other one would move this one.

    Args:
        collection: of the items.
        items: each once.
        tell: hears (done, total).
    """
    facts: dict[str, Facts] = {}
    left_out: list[tuple[Path, str]] = []
    parts = [items[i : i + _TASK] for i in range(0, len(items), _TASK)]
    done = 0
    for part, results in zip(
        parts, prefetch_map(lambda part: list(starmap(_look, [(collection, i) for i in part])), parts), strict=True
    ):
        for item, result in zip(part, results, strict=True):
            if isinstance(result, Facts):
                facts[item.id] = result
            else:
                left_out.append((collection.file(item), result))
        done += len(part)
        tell(done, len(items))
    names: dict[tuple[int, int], Item] = {}
    for item in items:
        if item.id in facts and (first := names.setdefault(facts[item.id].inode, item)) is not item:
            left_out.append((collection.file(item), f"it is the same file as {collection.file(first)}"))
            del facts[item.id]
    return facts, left_out


def _look(collection: Collection, item: Item) -> Facts | str:
    """What is known of a file, or why it is left out; runs in several threads."""
    path = collection.file(item)
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return f"it is a link to {path.readlink()}"
        if not unchanged(path, item):
            return "it has changed since it was indexed; index again"
        width, height = images.dimensions(path)
    except (FileNotFoundError, NotADirectoryError):
        return "it has gone; lookalike index --prune takes it out of the collection"
    except OSError as e:
        return f"it cannot be read: {e.strerror}"
    except LookalikeError as e:
        return str(e)
    return Facts(width, height, status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino))


def unchanged(path: Path, item: Item) -> bool:
    """Whether a file's content is what was indexed; it is read only where its size and times are not those of then.

    Raises:
        OSError, LookalikeError: it cannot be read.
    """
    status = path.stat()
    if item.signature == f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}":
        return True
    return images.fingerprint(images.read_bytes(path)) == item.sha256
