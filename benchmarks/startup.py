"""Measure the start-up time of commands, relative to that of the interpreter and libraries they need.

    python benchmarks/startup.py [--rounds 15]

The benchmark prints medians of interleaved runs and their ratios. It exits with 1 if a target is missed. The targets:
`lookalike --version` and `lookalike --help` take at most twice as long as the start of the interpreter, and `lookalike
search` in a small collection takes at most twice as long as the import of its libraries.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lookalike import sample

LOOKALIKE = str(Path(sys.executable).with_name("lookalike"))

INTERPRETER = [sys.executable, "-c", "pass"]
LIBRARIES = [sys.executable, "-c", "import numpy, onnxruntime, PIL.Image, sqlite3, pydantic, typer._adapters"]
TARGET = 2.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each command (default 15)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        image, collection = prepare(Path(folder))
        pairs = {
            "lookalike --version": ([LOOKALIKE, "--version"], INTERPRETER),
            "lookalike --help": ([LOOKALIKE, "--help"], INTERPRETER),
            "lookalike search": ([LOOKALIKE, "search", collection, image], LIBRARIES),
            "lookalike search --json": ([LOOKALIKE, "search", collection, image, "--json"], LIBRARIES),
        }
        commands = [INTERPRETER, LIBRARIES, *(command for command, _ in pairs.values())]
        took: dict[str, list[float]] = {" ".join(command): [] for command in commands}
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(Path(folder) / "compiled")
        for i in range(1 + rounds):
            for command in commands:
                began = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603 -- ours
                if i:  # the first round compiles
                    took[" ".join(command)].append(time.perf_counter() - began)
    medians = {command: 1000 * statistics.median(times) for command, times in took.items()}
    missed = False
    lines = [f"{'command':26}{'ms':>7}{'ratio':>7}  of"]
    for name, (command, reference) in pairs.items():
        ms, base = medians[" ".join(command)], medians[" ".join(reference)]
        missed |= ms > TARGET * base
        lines.append(f"{name:26}{ms:7.0f}{ms / base:7.2f}  {base:.0f} ms: python -c {reference[-1]!r}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.exit(missed)


def prepare(folder: Path) -> tuple[str, str]:
    """Make a small collection of the toy shop; return an image and the collection."""
    sample.write(folder, 64, 0)
    collection = str(folder / "shop.lookalike")
    subprocess.run([LOOKALIKE, "index", str(folder / "photos"), "--to", collection], check=True)  # noqa: S603 -- built here
    return str(next((folder / "photos").rglob("*.jpg"))), collection


if __name__ == "__main__":
    main()
