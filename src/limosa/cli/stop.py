"""``limosa stop``."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.declared import Option
from limosa.cli.options import GuestArgument, JsonOption, LabOption
from limosa.cli.values import HOST


def stop(
    guest: GuestArgument,
    lab: LabOption = "",
    force: Annotated[bool, Option("--force", help="End its QEMU at once, as pulling the plug.")] = False,
    host: Annotated[
        str,
        Option(
            kind=HOST,
            help="End only the copy on this host, when an interrupted migration left two; with --force also: it has "
            "ended on this host, which does not answer.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Shut a guest down."""
    from limosa.cli.face import face, run, show_result
    from limosa.lab import Lab

    async def work() -> bool:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await opened.stop(guest, force=force, host=host)

    stopped = run(work)
    if as_json:
        show_result({"guest": guest, "stopped": stopped})
    elif not stopped:
        print(f"nothing to do: {guest} does not run{f' on {host}' if host else ''}")
