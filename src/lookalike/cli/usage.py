"""Messages about wrong arguments in plain sentences, in place of Typer's."""

import re
from typing import Any

import typer

from lookalike.errors import plain_reason
from lookalike.tables import shorten

MAX_SHOWN = 60
"""Characters of an argument that a message quotes."""


def describe(error: typer.TyperException, command: str) -> str:
    """Describe a mistake in the arguments in one line: what is wrong with which value, and where to read more.

    Args:
        error: what Typer raised.
        command: the command that was called, if the error does not know it.
    """
    name = getattr(getattr(error, "ctx", None), "command_path", None) or command
    sentence = _sentence(error)
    return f"{sentence}{'' if sentence.endswith(('.', '?')) else '.'} See {name} --help."


def _sentence(error: Any) -> str:  # noqa: ANN401 -- Typer does not export the classes of its errors
    message = error.format_message()
    match type(error).__name__:
        case "MissingParameter":
            return f"{_name(error)} is missing"
        case "BadParameter":
            return _bad_value(error)
        case "NoSuchOption":
            known = " or ".join(error.possibilities or ())
            return f"The option {shorten(error.option_name, MAX_SHOWN)} is unknown" + (
                f". Did you mean {known}?" if known else ""
            )
        case "BadOptionUsage":
            what = "needs a value" if "requires an argument" in message else "takes no value"
            return f"The option {error.option_name} {what}"
        case _:
            return _general(message)


def _general(message: str) -> str:
    if found := re.match(r"No such command '(.*?)'\.(?: Did you mean '(.*?)')?", message, re.DOTALL):
        suggestion = f". Did you mean “{found[2]}”?" if found[2] else ""
        return f"The command “{shorten(found[1], MAX_SHOWN)}” is unknown{suggestion}"
    if found := re.match(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)", message, re.DOTALL):
        return f"There are too many arguments: “{shorten(found[1], MAX_SHOWN)}”"
    return plain_reason(message)


def _bad_value(error: Any) -> str:  # noqa: ANN401 -- as above
    reason = plain_reason(error.message).rstrip(".")
    value = _value(error)
    if found := re.match(r"(?s)(.*) is not one of (.*)", reason):
        *first, last = re.findall(r"'(.*?)'", found[2])
        value = value or re.sub(r"^'(.*)'$", r"\1", found[1])
        reason = f"must be {', '.join(first)}{' or ' if first else ''}{last}"
    if not reason.startswith("must be"):
        return f"{_name(error)} is wrong: {reason}"
    return f"{_name(error)} {reason}" + (f", not “{shorten(value, MAX_SHOWN)}”" if value else "")


def _name(error: Any) -> str:  # noqa: ANN401 -- as above
    """Return the option as it is typed, or the argument as the help names it."""
    param = error.param
    if param is None:
        return str(error.param_hint or "The value")
    if param.param_type_name == "option":
        return str(max(param.opts, key=len))
    return str(param.metavar or param.name.upper())


def _value(error: Any) -> str:  # noqa: ANN401 -- as above
    """Return the value that was given, if a validator says it."""
    try:
        return str((error.__cause__ or error.__context__).errors()[0]["input"])
    except (AttributeError, LookupError, TypeError):
        return ""
