"""Whether the target's QEMU may be trusted with a guest's memory of that size (docs/decisions, 0023)."""

from __future__ import annotations

from limosa.errors import MachineError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse
from limosa.qemu.ram import needs_sound_qemu


def concerns(facts: Facts) -> bool:
    """Whether the size is safe with a sound QEMU only."""
    started = facts.started
    return started is not None and started.ram_bytes is not None and needs_sound_qemu(started.ram_bytes, started.accel)


def judge(facts: Facts) -> list[Finding]:
    """An error unless the target's QEMU is remembered as sound: the guest would be damaged when it leaves again."""
    known, verdict = facts.target_qemu, facts.trial
    assert known is not None, "it was needed"
    if verdict is not None and verdict.sound:
        return []
    why = f"is not sound: {verdict.reason}" if verdict is not None and verdict.clear else "was not tried"
    guest, target = facts.guest, facts.target
    return [
        refuse(
            MachineError,
            f"guest {guest} would lose memory when it leaves {target} again: QEMU {known.version} there {why}",
            f"stop and start {guest} in this lab: it gets a memory size that is safe with every QEMU",
        )
    ]


CHECK = Check("memory size", When.BEFORE, judge, needs=("target_qemu", "trial"), concerns=concerns, vital=True)
