"""``limosa down``."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.options import JsonOption, LabOption
from limosa.cli.values import HOST, LAB


def down(
    file: Annotated[str, Argument(kind=LAB, help="The lab file; without it as for --lab.")] = "",
    lab: LabOption = "",
    keep_disks: Annotated[bool, Option("--keep-disks", help="Keep the guests' disks, keys and logs.")] = False,
    forget: Annotated[
        list[str],
        Option(
            "--forget",
            kind=HOST,
            help="Give this host up if it does not answer: what is on it stays, and is said. May be repeated.",
        ),
    ] = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """End everything the lab runs, prove that nothing is left, and delete its disks.

    A host that does not answer keeps what it has, and the lab's record says so: down again takes the rest.
    """
    from limosa.cli.face import face, run, show_result
    from limosa.lab import take_down

    async def work() -> bool:
        with face(as_json) as events:
            return await take_down(file or lab, events=events, purge=not keep_disks, forget=forget)

    was_there = run(work)
    if as_json:
        show_result({"down": True, "was_there": was_there})
    elif not was_there:
        print("nothing to do: there is no such lab")
