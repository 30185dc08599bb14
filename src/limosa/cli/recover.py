"""``limosa recover``."""

from __future__ import annotations

from limosa.cli.options import GuestArgument, JsonOption, LabOption


def recover(guest: GuestArgument, lab: LabOption = "", as_json: JsonOption = False) -> None:
    """Go on with a post-copy whose command has ended, and wait for its link while that is cut.

    Ctrl-C leaves it as it is.
    """
    from limosa.cli.face import face, run, show_result
    from limosa.cli.printable import print_prose
    from limosa.lab import Lab

    async def work() -> str:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await opened.recover(guest)

    told = run(work)
    if as_json:
        show_result({"guest": guest, "recovered": told})
    else:
        print_prose(told or f"nothing to recover: no migration of {guest} was left unfinished")
