"""The Typer application: a group of commands that imports a command's module when the command is called."""

import gc
import sys
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from lookalike.cli import COMMANDS, OPTIONS, output, usage
from lookalike.errors import LookalikeError, RecipeError
from lookalike.unicode_forms import find_existing
from lookalike.version import __version__

_MARKUP: Final = "markdown"


class Commands(MutableMapping[str, Any]):
    """The commands by name; a command is loaded when it is first looked up."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 -- Typer does not export the class of a command
        """Return a command, and load it if necessary."""
        if name not in self._loaded:
            module, _ = COMMANDS[name]
            with _no_garbage_collection():
                commands: typer.Typer = import_module(f"lookalike.cli.{module}").commands
            commands.rich_markup_mode = _MARKUP
            group = typer.main.get_group(commands)
            command = group.commands.get(name, group)
            command.name = name
            _accept_any_form(command)
            self._loaded[name] = command
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:  # noqa: ANN401 -- as above
        """Replace a command."""
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        """Forget a loaded command."""
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names without loading commands."""
        return iter(COMMANDS)

    def __len__(self) -> int:
        """Count the commands without loading them."""
        return len(COMMANDS)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the garbage collector, which takes time and finds nothing while modules are imported."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _accept_any_form(command: Any) -> None:  # noqa: ANN401 -- as in `Commands`
    """Let the paths that a command takes be in another Unicode form than those on the disk; see `find_existing`."""
    for subcommand in getattr(command, "commands", {}).values():
        _accept_any_form(subcommand)
    call = command.callback
    if call is None:
        return

    @wraps(call)
    def call_with_existing(**values: object) -> object:
        return call(**{name: _find(value) for name, value in values.items()})

    command.callback = call_with_existing


def _find(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_find(each) for each in value]
    return find_existing(value) if isinstance(value, Path) else value


class LazyGroup(TyperGroup):
    """The group `lookalike`, whose commands are loaded one by one."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 -- Typer's
        super().__init__(**settings)
        self.commands = Commands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 -- Typer's
        """List the names in the order of the help, without loading commands."""
        return list(COMMANDS)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=_MARKUP,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit


@app.callback()
def lookalike(
    _version: Annotated[
        bool, typer.Option("--version", help=OPTIONS["--version"], is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Find images that look alike.

    Begin with: lookalike demo
    """


def run() -> int:
    """Run the command that ``sys.argv`` names, and print an error as one line on stderr.

    Returns:
        The exit code.
    """
    # Pillow warns of damaged metadata, which does not matter here.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    try:
        return typer.main.get_command(app).main(prog_name="lookalike", standalone_mode=False) or 0
    except typer.TyperException as e:  # a mistake in the arguments
        if e.format_message():
            output.stderr.print(f"Error: {usage.describe(e, _called(sys.argv[1:]))}", style="red")
        return e.exit_code
    except RecipeError as e:  # a line for each problem
        output.stderr.print_lines(f"Error: {e}", style="red")
        return e.exit_code
    except LookalikeError as e:
        output.stderr.print(f"Error: {e}", style="red")
        return e.exit_code


def _called(arguments: list[str]) -> str:
    """Return the command that was called, with its subcommand: “lookalike duplicates apply”."""
    name = next((argument for argument in arguments if argument in COMMANDS), None)
    if name is None:
        return "lookalike"
    subcommands = getattr(Commands()[name], "commands", {})
    after = arguments[arguments.index(name) + 1 :]
    return " ".join(["lookalike", name, *[argument for argument in after if argument in subcommands][:1]])
