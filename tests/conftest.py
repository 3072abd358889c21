"""What the tests share. Shapes in annotations are checked while they run."""

import os
import signal
from pathlib import Path

import jaxtyping
import pytest

# Not in the modules of tight loops over tiny arrays, where the checks take longer than the work: what goes into these is
# checked by those that call them, and what comes out is compared with plain loops. LOOKALIKE_SHAPES=all checks them too.
CHECKED = [
    "lookalike.images",
    "lookalike.datasets",
    "lookalike.encoders",
    "lookalike.evaluation",
    "lookalike.stores",
    "lookalike.ingest",
    "lookalike.compare",
    "lookalike.collection",
    "lookalike.duplicates",
    "lookalike.cli",
    "lookalike.server",
]

if os.environ.get("LOOKALIKE_SHAPES") == "all":
    CHECKED += ["lookalike.metric", "lookalike.search"]

jaxtyping.install_import_hook(CHECKED, "shapes.checked")

# What a shell starts in the background ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder artefact."""
    from pocket_encoder import make  # noqa: PLC0415 -- it imports lookalike, and the hook comes first

    return make(tmp_path_factory.mktemp("encoders") / "pocket")
