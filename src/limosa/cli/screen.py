"""``limosa screen``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from limosa.cli.declared import Option
from limosa.cli.options import GuestArgument, JsonOption, LabOption
from limosa.cli.values import FILE

if TYPE_CHECKING:
    from limosa.guest.screen.shot import Shot


def screen(
    guest: GuestArgument,
    lab: LabOption = "",
    png: Annotated[Path | None, Option("--png", kind=FILE, help="Write a picture of the screen and end.")] = None,
    text: Annotated[bool, Option("--text", help="Print the text on the screen and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a guest's screen in the terminal and type on its keyboard, also across migrations. Ctrl-] leaves."""
    from limosa.cli.face import run, show_result
    from limosa.lab import Lab
    from limosa.paths import require_writable_file

    async def attach() -> str:
        from limosa.guest.screen.viewer import attach as join

        async with Lab.open(lab) as opened:
            return await join(opened.guests.screens(guest), guest)

    async def shoot() -> Shot:
        from limosa.guest.screen.shot import take

        async with Lab.open(lab) as opened:
            return await take(opened.guests.screens(guest), guest, str(png or ""))

    if png is not None:
        require_writable_file(png, "--png")
    if not (png or text or as_json):
        print(run(attach), file=sys.stderr)
        return
    shot = run(shoot)
    if as_json:
        show_result(shot)
    elif text:
        print(shot.readable)
    else:
        print(f"{png}: {shot.width} x {shot.height}")
