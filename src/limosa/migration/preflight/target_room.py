"""Whether the target has memory for the guest beside the others that it has."""

from __future__ import annotations

from limosa.errors import MachineError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse


def judge(facts: Facts) -> list[Finding]:
    """An error where it has not."""
    assert facts.started is not None and facts.room_bytes is not None, "both were needed"
    lacking = refusal(facts.guest, facts.target, facts.started.memory_bytes, facts.room_bytes)
    return [lacking] if lacking else []


def refusal(guest: str, host: str, needs_bytes: int, left_bytes: int) -> Finding | None:
    """Why *host* cannot take *guest*; None where it can."""
    if needs_bytes <= left_bytes:
        return None
    from limosa.units import format_bytes

    return refuse(
        MachineError,
        f"{host} has no room for {guest}: it needs {format_bytes(needs_bytes)}, "
        f"{format_bytes(max(0, left_bytes))} are left",
        "stop another guest there, or lower the guest's `memory`",
    )


CHECK = Check("memory", When.BEFORE, judge, needs=("room_bytes",), vital=True)
