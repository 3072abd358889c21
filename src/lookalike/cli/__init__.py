"""The command line: it translates, it decides nothing."""

import sys

import typer
from rich.console import Console

from lookalike.cli import collections, demo, encoders, serving, training
from lookalike.errors import LookalikeError

app = typer.Typer(
    help="Find images that look alike.\n\nBegin with: lookalike demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (collections, encoders, training, serving, demo):
    app.registered_commands.extend(module.commands.registered_commands)


def main() -> None:
    """Run the command line. A user's mistake is one line on stderr and exit code 2; a failure is 1; Ctrl-C is 130."""
    stderr = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        app()
    except LookalikeError as e:
        stderr.print(f"Error: {e}", style="red")
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        stderr.print("Stopped. What was finished is kept.")
        sys.exit(130)
    except BrokenPipeError:  # `lookalike … | head` has read enough
        sys.stderr.close()
        sys.exit(0)
