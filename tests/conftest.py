"""Setup that all tests share: array shapes in annotations are checked at run time."""

import fcntl
import os
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

import shapes

# Modules whose annotations are checked. Others have tight loops over tiny arrays, in which the checks take longer than the
# work; their callers' checks cover their arguments, and tests compare their results with plain loops. LOOKALIKE_SHAPES=all
# checks them too.
CHECKED = [
    "lookalike.images",
    "lookalike.codecs",
    "lookalike.datasets",
    "lookalike.embedding",
    "lookalike.encoders",
    "lookalike.evaluation",
    "lookalike.stores",
    "lookalike.ingest",
    "lookalike.compare",
    "lookalike.folder",
    "lookalike.state.roots",
    "lookalike.reindex",
    "lookalike.collection",
    "lookalike.api",
    "lookalike.duplicates",
    "lookalike.cli",
    "lookalike.server",
]

if os.environ.get("LOOKALIKE_SHAPES") == "all":
    CHECKED += ["lookalike.metric", "lookalike.search"]

shapes.check(CHECKED)

# The machine may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Tests, and the processes that they start, do not write into the user's own state folder and cache.
_STATE = tempfile.TemporaryDirectory(prefix="lookalike-state-")
os.environ["XDG_STATE_HOME"] = _STATE.name
os.environ["XDG_CACHE_HOME"] = f"{_STATE.name}/cache"

# The files that take longest, in this order; pytest gives each to one process.
LONGEST = [
    "test_page",
    "test_snippets",
    "test_networks",
    "test_bundled",
    "test_training",
    "test_several_processes",
    "test_images_spoiled",
    "test_untrusted",
    "test_stages",
    "test_imagenet",
    "test_cli",
    "test_durability",
    "test_study",
]

# A shell lets background processes ignore Ctrl-C; the processes that tests start must not inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the first process collect before the others: it rewrites asserts for ten seconds, and the others read its files."""
    with Path(__file__).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that one process does not end minutes after the others."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder artefact."""
    from pocket_encoder import make  # noqa: PLC0415 -- imports lookalike, which must follow the hook

    return make(tmp_path_factory.mktemp("encoders") / "pocket")
