"""Atomic file writes."""

from pathlib import Path
from typing import Any

import pytest

from lookalike import atomic


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    not_bytes: Any = None
    file.write_bytes(b"old")
    with pytest.raises(TypeError):
        atomic.write_bytes(file, b"new", not_bytes)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]
    atomic.write_bytes(file, b"new", b"er")
    assert file.read_bytes() == b"newer"


def test_readers_see_the_old_file_until_the_end(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with atomic.atomic_write(file) as part:
        part.write_text("new")
        assert file.read_text() == "old"
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "new")]


@pytest.mark.parametrize("folder", ["nowhere", "taken"])
def test_a_folder_that_is_not_writable_raises_the_first_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        atomic.write_bytes(tmp_path / folder / "file", b"new")
