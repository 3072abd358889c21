"""Write docs/reference/cli.md from the help texts of all commands.

python docs/cli_reference.py
"""

import re
import subprocess
import sys
from pathlib import Path

from lookalike.cli import COMMANDS

PAGE = Path(__file__).parent / "reference" / "cli.md"

GUIDES = {
    "index": "how-to/index.md",
    "join": "how-to/join.md",
    "duplicates": "how-to/duplicates.md",
    "tune": "how-to/tune.md",
    "evaluate": "how-to/measure.md",
    "calibrate": "how-to/calibrate.md",
    "train": "how-to/train.md",
    "serve": "reference/http.md",
}
"""Command → the page that explains its task."""


def generate() -> str:
    """Return the page."""
    command = [sys.executable, "-m", "typer", "lookalike.cli.app", "utils", "docs", "--name", "lookalike"]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 -- built here
    for name, (_, text) in COMMANDS.items():
        page = re.sub(rf"^\* `{name}`: .*$", f"* `{name}`: {text}", page, count=1, flags=re.MULTILINE)
    for name, guide in GUIDES.items():
        heading = f"\n## `lookalike {name}`\n"
        before, after = page.split(heading)
        page = before + heading + after.replace("\n**Usage**:", f"\nMore: [{guide}](../{guide}).\n\n**Usage**:", 1)
    return page.strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(generate(), encoding="utf-8")
