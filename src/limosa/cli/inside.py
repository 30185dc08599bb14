"""``limosa ssh`` and ``limosa exec``: this process becomes the one asked for, so the terminal is wholly its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

from limosa.cli.declared import Argument
from limosa.cli.options import GuestArgument, HostArgument, JsonOption, LabOption
from limosa.cli.values import COMMAND

CommandArgument = Annotated[list[str] | None, Argument(kind=COMMAND, help="The command; without it a shell.")]


def ssh(
    guest: GuestArgument, command: CommandArgument = None, lab: LabOption = "", as_json: JsonOption = False
) -> None:
    """Log in to a guest as root, by the lab's own key."""
    from limosa.lab import Lab

    async def work() -> list[str]:
        async with Lab.open(lab) as opened:
            await opened.guests.where(guest)
            return opened.guests.ssh(guest, command or ())

    _become(work, as_json)


def execute(
    host: HostArgument, command: CommandArgument = None, lab: LabOption = "", as_json: JsonOption = False
) -> None:
    """Run a command on a host (or on `client`), as: limosa exec host1 -- ip addr."""
    from limosa.lab import Lab

    async def work() -> list[str]:
        async with Lab.open(lab) as opened:
            await opened.hosts.meet(host)
            return opened.hosts.interactive(host, command or ["sh"])

    _become(work, as_json)


def _become(work, as_json: bool) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    from limosa.cli.face import run, show_result
    from limosa.process import base_environment
    from limosa.process import run as run_process

    argv: Sequence[str] = run(work)
    if not as_json:
        os.execvpe(argv[0], list(argv), base_environment())
    done = run(lambda: run_process(argv, check=False))
    show_result(
        {
            "argv": list(argv),
            "returncode": done.returncode,
            "stdout": done.stdout.decode(errors="replace"),
            "stderr": done.stderr.decode(errors="replace"),
        }
    )
    raise SystemExit(done.returncode if done.returncode >= 0 else 128 - done.returncode)
