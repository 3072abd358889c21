"""What the tests share. Shapes in annotations are checked while they run."""

from pathlib import Path

import jaxtyping
import pytest

# Not in the modules of tight loops over tiny arrays, where the checks would take ten times as long as the work: what
# goes into these is checked at the doors, and `test_search.py` and `test_metric.py` compare what comes out with plain
# loops.
CHECKED = [
    "lookalike.images",
    "lookalike.encoders",
    "lookalike.evaluation",
    "lookalike.stores",
    "lookalike.ingest",
    "lookalike.collection",
    "lookalike.cli",
    "lookalike.server",
]

jaxtyping.install_import_hook(CHECKED, "shapes.checked")


@pytest.fixture(scope="session")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder artefact."""
    from pocket_encoder import make  # noqa: PLC0415 -- it imports lookalike, and the hook comes first

    return make(tmp_path_factory.mktemp("encoders") / "pocket")
