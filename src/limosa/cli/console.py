"""``limosa console``."""

from __future__ import annotations

import sys

from limosa.cli.options import GuestArgument, JsonOption, LabOption


def console(guest: GuestArgument, lab: LabOption = "", as_json: JsonOption = False) -> None:
    """Attach the terminal to a guest's serial console, also across migrations. Ctrl-] leaves."""
    from limosa.cli.face import run, show_result
    from limosa.guest.console import attach
    from limosa.lab import Lab

    async def work() -> str:
        async with Lab.open(lab) as opened:
            if as_json:
                return await opened.guests.said(guest)
            return await attach(opened.guests.console_sockets(guest), guest)

    result = run(work)
    if as_json:
        show_result({"guest": guest, "console": result})
    else:
        print(f"\r\n{result}", file=sys.stderr)
