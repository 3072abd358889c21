"""The command line: a table of commands, whose modules are loaded when a command runs."""

import codecs
import errno
import os
import sys
from io import TextIOWrapper

from lookalike.version import __version__

COMMANDS = {
    "index": ("index", "Add a folder of images to a collection."),
    "search": ("search", "Find the images of a collection that look like an image, or that a text describes."),
    "join": ("join", "Find all pairs of images of two collections, or of one with itself, that look alike."),
    "duplicates": ("duplicates", "Find duplicates in a collection, and move them away."),
    "tune": ("tune", "Build an index for approximate search, if exact search takes too long."),
    "reindex": (
        "reindex",
        "Embed the images of a collection again with another encoder, and swap encoder and vectors at the end.",
    ),
    "compress": (
        "compress",
        "Replace the vectors of a collection by codes, which take fewer bytes, and swap them at the end.",
    ),
    "relocate": ("relocate", "Tell a collection that its image files have moved to another folder."),
    "remove": ("remove", "Remove items from a collection; their image files stay."),
    "list": ("list", "List the collections in a folder: their items, encoder, metric and size."),
    "info": ("info", "Describe a collection: its items, encoder, metric, size, index and labels."),
    "verify": ("verify", "Decide whether two images show the same thing."),
    "classify": ("classify", "Classify images from a few labelled examples per class."),
    "encoders": ("encoders", "List the encoders that ship with lookalike, and public ones that it knows by name."),
    "embed": ("embed", "Embed images into a NumPy file, to measure an encoder with your own tools."),
    "datasets": ("datasets", "Check labelled images before training or evaluation."),
    "evaluate": ("evaluate", "Measure an encoder on labelled images, and write a report."),
    "calibrate": (
        "calibrate",
        "Calibrate an encoder on held-out images, and write the calibration into its card.",
    ),
    "train": ("train", "Train an encoder by a recipe, or from an encoder and labelled images; or resume a run."),
    "export": ("export", "Convert trained weights (a state dict) to an encoder."),
    "study": ("study", "Compare variants of a recipe, or codecs that compress a collection, in tables."),
    "serve": ("serve", "Serve collections over HTTP, with a web page."),
    "demo": ("demo", "Draw a toy shop, index it, search it by photo and by sketch, and serve it; download nothing."),
}
"""Command → its module in `lookalike.cli`, and the first line of its help."""

OPTIONS = {
    "--version": "Print the version.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the installation.",
    "-h, --help": "Show this message and exit.",
}
"""Options of `lookalike` itself, and their help."""

_PLAIN = "lookalike.plain"

_SUBSTITUTES = {
    "“": '"',
    "”": '"',
    "’": "'",
    "…": "...",
    "–": "-",
    "×": "x",
    "→": "->",
    "≤": "<=",
    **dict.fromkeys("█▉▊▋▌▍▎▏", "#"),
}

_STORAGE_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Run the command line and exit.

    An error prints one line on stderr. Exit codes: 2 for wrong usage, 1 for a failure, 130 for Ctrl-C.
    """
    try:
        _open_streams()
        code = _run(sys.argv[1:])
        sys.stdout.flush()  # now, since a full disk can be reported as one line only here
    except KeyboardInterrupt:  # also while modules are imported
        code = 130
    except OSError as e:
        if e.errno not in (errno.EPIPE, *_STORAGE_FULL):
            raise
        if e.errno != errno.EPIPE:  # a closed pipe is not an error: its reader has read enough
            print("Error: The disk is full, and the output is incomplete. Make room.", file=sys.stderr)  # noqa: T201
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
        code = 1
    sys.exit(code)


def _open_streams() -> None:
    """Make the standard streams fit to write any text.

    They escape characters that their encoding lacks. They discard all text if the caller has closed them, since Python
    leaves them out then.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 -- open until the end
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_PLAIN)


def _write_plainly(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks: marks and bars by plain ones, others by their escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters), error.end


codecs.register_error(_PLAIN, _write_plainly)


def _run(arguments: list[str]) -> int:
    # The shell asks for completions through the environment, without arguments.
    if "_LOOKALIKE_COMPLETE" not in os.environ:
        if not arguments:
            sys.stdout.write(_help())
            return 2
        if arguments[0] in ("-h", "--help"):
            sys.stdout.write(_help())
            return 0
        if arguments[0] == "--version":
            sys.stdout.write(f"{__version__}\n")
            return 0
    from lookalike.cli.app import run  # noqa: PLC0415 -- importing Typer takes longer than starting Python

    return run()


def _help() -> str:
    width = max(map(len, OPTIONS)) + 2
    options = [f"  {option:<{width}}{text}" for option, text in OPTIONS.items()]
    commands = [f"  {name:<{width}}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: lookalike [OPTIONS] COMMAND [ARGS]...",
            "",
            "Find images that look alike.",
            "",
            "Begin with: lookalike demo",
            "",
            "Commands (lookalike COMMAND --help explains one):",
            *commands,
            "",
            "Options:",
            *options,
            "",
        ]
    )
