"""``limosa start``."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.declared import Option
from limosa.cli.options import GuestArgument, JsonOption, LabOption


def start(
    guest: GuestArgument,
    lab: LabOption = "",
    wait: Annotated[bool, Option(help="Wait until the guest has booted.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Start a guest on its host."""
    from limosa.cli.face import face, run, show_result
    from limosa.lab import Lab

    async def work() -> bool:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await opened.start(guest, wait=wait)

    started = run(work)
    if as_json:
        show_result({"guest": guest, "started": started})
    elif not started:
        print(f"nothing to do: {guest} runs already")
