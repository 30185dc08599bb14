"""Whether the target's QEMU knows the guest's machine type, and what it can do at all."""

from __future__ import annotations

from limosa.errors import MachineError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse


def judge(facts: Facts) -> list[Finding]:
    """An error where it does not."""
    known, started = facts.target_qemu, facts.started
    assert known is not None and started is not None, "both were needed"
    if known.machine(started.machine) is not None:
        return []
    return [
        refuse(
            MachineError,
            f"QEMU {known.version} on {facts.target} does not know {facts.guest}'s machine type {started.machine}",
            f"start the guest with an older `machine:`, or give {facts.target} a newer `qemu:`",
        )
    ]


CHECK = Check("machine type", When.BEFORE, judge, needs=("target_qemu",), vital=True)
