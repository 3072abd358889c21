"""Count the files of lookalike that a request enters: how many a reader has to open to follow it.

python benchmarks/entered.py search shop mug.jpg          # a command line
python benchmarks/entered.py --http shop.lookalike mug.jpg    # POST /api/collections/shop/search

A file counts if one of its functions is called. All modules are imported beforehand, so imports do not count.
"""

import importlib
import pkgutil
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from fastapi.testclient import TestClient

import lookalike
from lookalike.cli import main as run_lookalike
from lookalike.collection import Collection
from lookalike.server import create_app

PACKAGE = Path(lookalike.__file__).parent


def entered(work: Callable[[], object]) -> list[str]:
    """Run something, and list the files whose functions it calls, in the order of their first call."""
    files: dict[str, None] = {}

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename.startswith(str(PACKAGE)):
            files.setdefault(str(Path(code.co_filename).relative_to(PACKAGE)))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # as the documentation of threading allows
    return list(files)


def run_command(arguments: list[str]) -> None:
    """Run a command line in this process."""
    sys.argv = ["lookalike", *arguments]
    with suppress(SystemExit):
        run_lookalike()


def search_by_http(folder: str, image: str) -> Callable[[], object]:
    """Prepare a search over HTTP."""
    collection = Collection.open(Path(folder))
    client = TestClient(create_app([collection]), base_url="http://localhost")
    data = Path(image).read_bytes()
    return lambda: client.post(f"/api/collections/{collection.name}/search", files={"image": data}).raise_for_status()


def main() -> None:
    """Print the files, and on stderr their number and that of their lines."""
    for module in pkgutil.walk_packages(lookalike.__path__, "lookalike."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    if sys.argv[1:2] == ["--http"]:
        files = entered(search_by_http(*sys.argv[2:]))
    else:
        arguments = sys.argv[1:]
        files = entered(lambda: run_command(arguments))
    lines = sum(len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in files)
    sys.stdout.write("".join(f"{file}\n" for file in files))
    sys.stderr.write(f"{len(files)} files, {lines:,} lines\n")


if __name__ == "__main__":
    main()
