"""``limosa explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from limosa.cli.options import JsonOption, LabOption, complete_guests
from limosa.cli.report import complete_runs


def explain(
    guest: Annotated[
        str, typer.Argument(help="A guest of the lab.", autocompletion=complete_guests, show_default=False)
    ] = "",
    migration: Annotated[
        str,
        typer.Option(
            "--migration", help="A run: explain the QMP commands of its migrations.", autocompletion=complete_runs
        ),
    ] = "",
    lab: LabOption = "",
    as_json: JsonOption = False,
) -> None:
    """Print a guest's real command line, or a migration's QMP commands, with the purpose of each part."""
    from limosa.cli.terminal import show_result
    from limosa.errors import SpecError

    if bool(guest) == bool(migration):
        raise SpecError("explain what?", hint="limosa explain GUEST, or limosa explain --migration RUN")
    pairs = _of_migration(migration) if migration else _of_guest(guest, lab)
    if as_json:
        show_result([{"what": what, "purpose": purpose} for what, purpose in pairs])
        return
    for what, purpose in pairs:
        print(what)
        print(f"    {purpose}")


def _of_guest(guest: str, lab: str) -> list[tuple[str, str]]:
    from limosa.cli.terminal import run
    from limosa.lab import Lab

    async def work() -> list[tuple[str, str]]:
        async with Lab.open(lab) as opened:
            return await opened.explain(guest)

    return run(work)


def _of_migration(run: str) -> list[tuple[str, str]]:
    from limosa.qemu.purpose import explain_exchanges
    from limosa.results.store import find, read_events

    return explain_exchanges(read_events(find(run)))
