"""The commands and programs in the README and the tutorial run as they are written, in order, in one folder."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from lookalike import sample

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent

# Commands that a test cannot or need not run → what it runs instead.
INSTEAD = {
    "make demo": "lookalike demo --no-serve",  # the rest of it has run before: it installs lookalike
    "make test": "true",
    "source .venv/bin/activate": "true",  # `environment` does it
}

RECIPE = """
name: mine
data: {sources: [{path: photos}], size: 32, validation: 0.25}
network: {backbone: cnn, dimension: 16}
losses: [{kind: triplet, margin: 0.2}]
sampler: {classes: 4, items: 4}
optimiser: {learning_rate: 0.1}
schedule: {kind: constant}
train: {epochs: 1}
"""


@dataclass(frozen=True)
class Block:
    """A block of code in a page."""

    page: str
    line: int
    language: str
    text: str

    def commands(self) -> list[tuple[str, list[str]]]:
        """Split a block of the terminal into commands and the output that the page shows for each."""
        lines = self.text.splitlines()
        if not any(line.startswith("$ ") for line in lines):
            return [(line, []) for line in lines if line]
        commands: list[tuple[str, list[str]]] = []
        for line in lines:
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        return commands


def blocks(name: str) -> Iterator[Block]:
    text = (ROOT / name).read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(name, text.count("\n", 0, match.start()) + 2, match[1], match[2])


def shape(line: str) -> str:
    """Return a line without its numbers, bars and the widths of its columns, which depend on the machine."""
    return " ".join(re.sub(r"[\d.,█]+", "", line).split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make what a reader has: a clone, photos at home, labelled images, a few single images and a recipe."""
    clone, home = tmp_path / "lookalike", tmp_path / "home"
    shutil.copytree(ROOT / "recipes", clone / "recipes")
    for recipe in (
        clone / "recipes"
    ).iterdir():  # one epoch shows that a recipe runs, and two variants that a study does
        text = re.sub(r"epochs: \d+", "epochs: 1", recipe.read_text(encoding="utf-8"))
        tree = yaml.safe_load(text)
        if "variants" in tree:
            tree["variants"] = dict(list(tree["variants"].items())[:2])
        recipe.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    products = sample.write(tmp_path / "shop", 256, 5)
    photos = tmp_path / "shop" / "photos"
    some = ("mug", "hat", "shoe", "chair")
    for to in ("photos", "held-out", "my-classes"):
        for label in some:
            shutil.copytree(photos / label, clone / to / label)
    for label in some:
        (clone / "my-examples" / label).mkdir(parents=True)
        shutil.copy(photos / label / f"{label}-0001.jpg", clone / "my-examples" / label)
    shutil.copytree(photos, home / "Pictures")
    files = [photos / product.label / f"{product.id}.jpg" for product in products]
    for name, file in zip(("cat", "one", "other", "new"), files, strict=False):
        shutil.copy(file, clone / f"{name}.jpg")
    shutil.copy(clone / "cat.jpg", home / "Pictures" / "cat.jpg")
    shutil.copy(next((tmp_path / "shop" / "sketches").rglob("*.png")), clone / "drawing.png")
    (clone / "my-recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (clone / "data").mkdir()
    rng = np.random.default_rng(0)
    digits = {f"{kind}_{split}": value for split, n in (("train", 600), ("test", 400)) for kind, value in (
        ("x", rng.integers(0, 256, (n, 28, 28), np.uint8)), ("y", np.arange(n) % 10))}  # fmt: skip
    np.savez_compressed(clone / "data" / "mnist.npz", allow_pickle=False, **digits)
    return clone


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a reader who activated the environment."""
    kept = {k: v for k, v in os.environ.items() if k in ("LANG", "OMP_NUM_THREADS", "PYTHONPATH", "TMPDIR")}
    return kept | {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder.parent / "home"), "COLUMNS": "200"}


class Shell:
    """Runs blocks in a folder, as a reader would paste them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def run(self, block: Block) -> None:
        if block.language == "python":
            self._run(block, [sys.executable, "-c", block.text])
            return
        assert block.language == "", f"{block.page}:{block.line}: unknown language {block.language}"
        for command, shown in block.commands():
            self._command(block, command, shown)

    def _command(self, block: Block, command: str, shown: list[str]) -> None:
        if command == "make demo" and (self.folder / "demo").exists():
            return  # both pages begin with it; test_cli.py makes a demo again
        words = shlex.split(command, comments=True)
        if words[:2] == ["pip", "install"]:
            (extra,) = re.findall(r"^\.\[(\w+)\]$", words[2])
            assert (
                extra in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
            )
        elif words[:2] == ["lookalike", "serve"]:
            self._serve(words)
        else:
            printed = self._run(block, ["bash", "-c", INSTEAD.get(command, command)])
            lines = [shape(line) for line in printed.replace(f"{self.folder}/", "").splitlines()]
            for line in shown:
                if line != "…" and not shape(line).endswith(".html."):
                    assert shape(line) in lines, (
                        f"{block.page}:{block.line}: {command} does not print “{line}”:\n{printed}"
                    )

    def _run(self, block: Block, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.page}:{block.line}: {command[-1]}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def _serve(self, words: list[str]) -> None:
        # Another server may listen on the default port.
        server = subprocess.Popen(
            [*words, "--port", "0"], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout
        with server, server.stdout:
            try:
                address = next(word for line in server.stdout for word in line.split() if word.startswith("http"))
                assert "<title>" in httpx.get(address, trust_env=False).text
            finally:
                server.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_the_blocks_of_readme_and_tutorial_run_in_order(folder: Path, environment: dict[str, str]) -> None:
    shell = Shell(folder, environment)
    pages = [block for page in ("README.md", "docs/tutorial.md") for block in blocks(page)]
    assert len(pages) > 10
    for block in pages:
        shell.run(block)
