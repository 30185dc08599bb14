"""The command line assembled: one file a verb. A command imports the file of its own verb alone, to start fast."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import typer

VERBS = {
    "demo": ("demo", "demo"),
    "up": ("up", "up"),
    "down": ("down", "down"),
    "status": ("status", "status"),
    "start": ("start", "start"),
    "stop": ("stop", "stop"),
    "migrate": ("migrate", "migrate"),
    "console": ("console", "console"),
    "screen": ("screen", "screen"),
    "ssh": ("inside", "ssh"),
    "exec": ("inside", "execute"),
    "logs": ("logs", "logs"),
    "doctor": ("doctor", "doctor"),
    "report": ("report", "report"),
    "explain": ("explain", "explain"),
    "calibrate": ("calibrate", "calibrate"),
    "homework": ("homework", "homework"),
    "schema": ("schema", "schema"),
}
"""Each verb: its module in ``limosa.cli`` and the function there, in the order in which help lists them."""

GROUPS = {"host": "host", "bench": "bench", "image": "image"}
"""Verbs that have verbs of their own: the module whose ``app`` it is."""

_ABOUT = "Builds a live-migration laboratory, moves running virtual machines, says exactly what the move cost."
_EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong lab file or argument, 3 the machine lacks something, "
    "4 not possible as things stand, 5 another command is at work, 6 the migration did not complete and the "
    "guest is safe, 7 a person must decide, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP."
)


def _root(version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True)) -> None:
    if version:
        from limosa import __version__

        print(f"limosa {__version__}")
        raise typer.Exit


def assemble(words: Sequence[str] = ()) -> typer.Typer:
    """The command line for *words*: with the one verb that they begin with, or with all (help, completion, errors)."""
    app = typer.Typer(
        name="limosa",
        help=_ABOUT,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=_EXIT_CODES,
    )
    app.callback(invoke_without_command=True, help=_ABOUT)(_root)
    known = [*VERBS, *GROUPS]
    for name in [words[0]] if words and words[0] in known else known:
        if name in GROUPS:
            app.add_typer(import_module(f"limosa.cli.{GROUPS[name]}").app, name=name)
        else:
            module, function = VERBS[name]
            app.command(name)(getattr(import_module(f"limosa.cli.{module}"), function))
    return app
