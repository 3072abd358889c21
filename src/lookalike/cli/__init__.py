"""The command line: it translates, it decides nothing."""

import errno
import os
import sys
from typing import Annotated

import typer

from lookalike import __version__
from lookalike.cli import (
    calibrating,
    collections,
    datasets,
    demo,
    duplicates,
    encoders,
    evaluation,
    joining,
    judging,
    output,
    serving,
    training,
    tuning,
)
from lookalike.errors import LookalikeError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        output.stdout.print(__version__)
        raise typer.Exit


@app.callback()
def lookalike(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Find images that look alike.

    Begin with: lookalike demo
    """


for module in (
    collections,
    joining,
    duplicates,
    tuning,
    judging,
    encoders,
    datasets,
    evaluation,
    calibrating,
    training,
    serving,
    demo,
):
    app.registered_commands.extend(module.commands.registered_commands)


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2; a failure is 1."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where a full disk can still be told in words
    except LookalikeError as e:
        output.stderr.print(f"Error: {e}", style="red")
        sys.exit(e.exit_code)
    except OSError as e:
        if e.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        if e.errno != errno.EPIPE:  # who closes a pipe has read enough
            output.stderr.print("Error: The disk is full, and the output is not whole. Make room.", style="red")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more as it ends
        sys.exit(1)
