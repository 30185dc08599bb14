"""``limosa image``: what guests start from, installed, built or fetched, and kept."""

from __future__ import annotations

import typer

from limosa.cli.image_build import build
from limosa.cli.image_install import install
from limosa.cli.image_list import list_images, remove, show

app = typer.Typer(help="Images of guests: install, build, list, show, remove.", no_args_is_help=True)
app.command("install")(install)
app.command("build")(build)
app.command("list")(list_images)
app.command("show")(show)
app.command("remove")(remove)
