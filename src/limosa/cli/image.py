"""``limosa image``: a group of verbs, one small file each."""

from __future__ import annotations

import typer

from limosa.cli.image_install import install

app = typer.Typer(help="Images of guests: install, build, list, remove.", no_args_is_help=True)
app.command("install")(install)
