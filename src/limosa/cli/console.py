"""``limosa console``."""

from __future__ import annotations

import sys

from limosa.cli.options import GuestArgument, JsonOption, LabOption


def console(guest: GuestArgument, lab: LabOption = "", as_json: JsonOption = False) -> None:
    """Attach the terminal to a guest's serial console, also across migrations. Ctrl-] leaves."""
    from limosa.cli.face import run, show_result
    from limosa.errors import StateError
    from limosa.guest.console import attach
    from limosa.lab import Lab

    async def work() -> str:
        async with Lab.open(lab) as opened:
            if as_json:
                host = await opened.guests.where(guest)
                log = opened.directory.log / f"{guest}@{host}.console.log"
                if not log.is_file():
                    raise StateError(f"the console of {guest} is kept on {host}", hint=f"limosa logs {guest} --json")
                return log.read_text(errors="replace")
            return await attach(opened.guests.console_sockets(guest), guest)

    result = run(work)
    if as_json:
        show_result({"guest": guest, "console": result})
    else:
        print(f"\r\n{result}", file=sys.stderr)
