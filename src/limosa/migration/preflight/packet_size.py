"""Whether packets as large as the hosts' interfaces make them pass between them, in the migration network."""

from __future__ import annotations

from limosa.errors import MachineError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, note, refuse


def judge(facts: Facts) -> list[Finding]:
    """An error where they are lost: the move would connect, and then stand still."""
    assert facts.packets is not None, "it was needed"
    if facts.packets.whole:
        return []
    detail, fix = facts.packets.told()
    return [refuse(MachineError, detail, fix) if facts.packets.passes_bytes else note(detail)]


CHECK = Check("packet size", When.BESIDE, judge, needs=("packets",))
