"""Paths inside a folder of a stranger."""

import os
from pathlib import Path

import pytest

from lookalike.untrusted.paths import read_inside, resolve_inside


@pytest.mark.parametrize(
    "name", ["..", "a/../../b", "/etc/passwd", "", ".", "a//b", "a/", "./a", "a\0b", "images/../../victim"]
)
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="outside"):
        resolve_inside(tmp_path, name)


def test_a_name_inside_is_resolved_below_a_folder_that_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert resolve_inside(tmp_path / "link", "a/b") == tmp_path / "link" / "a" / "b"


@pytest.mark.parametrize("name", ["file", "folder/file", "dangling"])
def test_no_link_is_followed(tmp_path: Path, name: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    (inside / "file").symlink_to(outside / "file")
    (inside / "folder").symlink_to(outside)
    (inside / "dangling").symlink_to(outside / "nothing")
    with pytest.raises(OSError, match="links"):
        read_inside(inside, name, 100)


def test_only_a_regular_file_of_limited_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(10))
    assert read_inside(tmp_path, "file", 10) == bytes(10)
    with pytest.raises(OSError, match="more than 9 bytes"):
        read_inside(tmp_path, "file", 9)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        read_inside(tmp_path, "pipe", 9)
