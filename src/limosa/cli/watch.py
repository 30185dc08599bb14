"""``limosa watch``: a migration that another command makes, as that command writes it down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limosa.cli.options import GuestArgument, JsonOption, LabOption

if TYPE_CHECKING:
    from limosa.events import MigrationPhaseChanged


def watch(guest: GuestArgument, lab: LabOption = "", as_json: JsonOption = False) -> None:
    """Watch a migration that another command makes, until it is over. QEMU is not asked anything.

    With --json each event is a line, as in a run's events.jsonl. The exit code is 1 where it did not complete.
    """
    from limosa.cli.face import face, run
    from limosa.errors import LimosaError
    from limosa.events import MigrationPhaseChanged, to_json
    from limosa.lab import Lab

    async def work() -> MigrationPhaseChanged | None:
        last = None
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                with events.stage(f"migration of {guest}") as step:
                    async for event in opened.guests.follow(guest):
                        if as_json:
                            print(to_json(event).decode(), flush=True)
                        else:
                            events.emit(event)
                        if isinstance(event, MigrationPhaseChanged):
                            events.note(f"{event.source} → {event.target}: {event.phase}")
                            last = event
                    if last is None or last.phase != "completed":
                        step.fail()
        return last

    last = run(work)
    if as_json and last is not None:  # its last line says it
        raise SystemExit(0 if last.phase == "completed" else 1)
    if last is None:
        raise LimosaError(f"nothing is written of the migration of {guest}", hint="limosa status shows where it is")
    if last.phase != "completed":
        raise LimosaError(
            f"the migration of {guest}, {last.source} → {last.target}, ended at {last.phase}",
            hint="limosa status shows where it is, and what helps",
        )
    print(f"{guest} is on {last.target}")
