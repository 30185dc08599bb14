"""``limosa switch``."""

from __future__ import annotations

from limosa.cli.options import GuestArgument, JsonOption, LabOption


def switch(guest: GuestArgument, lab: LabOption = "", as_json: JsonOption = False) -> None:
    """Have a migration that is under way become post-copy now: the guest goes on at the target, its memory follows."""
    from limosa.cli.face import face, run, show_result
    from limosa.lab import Lab

    async def work() -> None:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                await opened.switch(guest)

    run(work)
    if as_json:
        show_result({"guest": guest, "switched": True})
