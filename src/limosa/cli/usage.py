"""The command line called so that a wrong option, argument or verb is an error of ours, like any other."""

from __future__ import annotations

import difflib
from typing import Any

import typer

from limosa.errors import SpecError

# Typer raises click's exceptions and keeps click to itself, so their common ancestor is found by what it exports.
_ClickException: Any = typer.BadParameter.__mro__[2]


def call(app: typer.Typer) -> int:
    """Run the command line; return its exit code.

    Raises SpecError for a wrong usage, BrokenPipeError when nobody reads standard output any more.
    """
    try:
        code = app(prog_name="limosa", standalone_mode=False)
    except _ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return 2
        raise _ours(error) from error
    except typer.Abort:
        return 1
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from error
        raise
    return code if isinstance(code, int) else 0


def _ours(error: Any) -> SpecError:
    """Typer's complaint as one sentence, with the nearest name or the usage as its hint."""
    message = str(error.format_message()).strip().rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return SpecError(message, hint="limosa -h lists the verbs")
    path = context.command_path
    verbs = getattr(context.command, "commands", {})
    if verbs and message.startswith("No such command"):
        name = message.split("'")[1]
        near = difflib.get_close_matches(name, verbs, 1)
        hint = f"did you mean {path} {near[0]}?" if near else f"{path} -h lists the verbs"
        return SpecError(f"there is no verb {name}", hint=hint)
    option = getattr(error, "option_name", "")
    if option and message.startswith("No such option"):
        known = [name for parameter in context.command.get_params(context) for name in parameter.opts]
        near = difflib.get_close_matches(option, [name for name in known if name.startswith("--")], 1)
        hint = f"did you mean {near[0]}?" if near else f"{path} -h lists the options"
        return SpecError(f"{path} has no option {option}", hint=hint)
    usage = " ".join(context.get_usage().split()).removeprefix("Usage: ")
    return SpecError(message[:1].lower() + message[1:], hint=f"usage: {usage}; {path} -h explains it")
