"""Look-up of items by their ids or by the paths of their files."""

from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

from lookalike.errors import UsageError
from lookalike.ingest.paths import absolute_path, file_id
from lookalike.stores import Item, Store


def find_items(store: Store, names: Sequence[str]) -> dict[str, Item]:
    """Find items by name: an id, or the path of a file, also in another Unicode form than that of its item.

    Returns:
        Name → item, without unknown names.

    Raises:
        UsageError: several items have paths that look like a name, and none has the name itself.
    """
    found = store.get(names)
    rest = [name for name in names if name not in found]
    if not rest:
        return found
    paths = {name: str(absolute_path(Path(name))) for name in rest}
    by_hash = store.get([file_id(Path(path)) for path in paths.values()])
    unmoved = {item.uri: item for item in by_hash.values()}
    found |= {name: unmoved[path] for name, path in paths.items() if path in unmoved}
    if len(found) < len({*names}):  # the id of a moved file is a hash of an earlier path
        found |= _find_by_path(store, {name: path for name, path in paths.items() if name not in found})
    return found


def _find_by_path(store: Store, paths: dict[str, str]) -> dict[str, Item]:
    wanted = {normalize("NFC", path) for path in paths.values()}
    alike: dict[str, list[Item]] = {}
    for item in store.scan():
        form = item.uri if item.uri.isascii() else normalize("NFC", item.uri)
        if form in wanted:
            alike.setdefault(form, []).append(item)
    found: dict[str, Item] = {}
    for name, path in paths.items():
        items = alike.get(normalize("NFC", path), [])
        same = [item for item in items if item.uri == path] or items
        if len(same) > 1:
            raise UsageError(f"“{name}” may be one of {len(same)} items; give the id: {', '.join(i.id for i in same)}.")
        if same:
            found[name] = same[0]
    return found
