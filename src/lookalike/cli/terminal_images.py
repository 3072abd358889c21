"""Images in a terminal with 24-bit colour, drawn with half-block characters."""

from collections.abc import Sequence
from pathlib import Path

from rich.color import Color
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.style import Style
from rich.text import Text

from lookalike import images
from lookalike.errors import LookalikeError

# Side of an image in pixels: one column a pixel, and one line for two.
_SIDE = 20


def print_row(titled: Sequence[tuple[Path, str]]) -> None:
    """Print images with their titles in one row, as many as fit.

    Print nothing if the terminal does not have 24-bit colour. Skip images that cannot be read.
    """
    console = Console(highlight=False)
    if console.color_system != "truecolor":
        return
    panels = []
    for path, title in titled[: max(1, console.width // (_SIDE + 5))]:
        try:
            panels.append(Panel(_draw(path), title=Text(title), width=_SIDE + 4, border_style="dim"))
        except LookalikeError:  # the table below lists the path anyway
            continue
    console.print(Columns(panels))


def _draw(path: Path) -> Text:
    """Draw two pixels with each character: the upper pixel is the foreground."""
    pixels = images.load(path, _SIDE)
    text = Text()
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom)))
        text.append("\n")
    text.rstrip()
    return text
