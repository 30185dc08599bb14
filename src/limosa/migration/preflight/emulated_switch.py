"""Whether post-copy keeps an emulated guest whole: not by a QEMU with the status ``postcopy-device`` (10.2 and newer).

Seen with 11.1.3 under TCG, with and without preempt: in 4 of 28 moves the guest had memory at the target that was newer
than the state of its processor (``docs/qemu.md``). It is the source: 1 of 15 moves to 10.0, none of 15 from there. The
switch was written anew in 10.2; no later mend is known that could be asked for. Whether KVM's guests are hit is not
known.
"""

from __future__ import annotations

from limosa.errors import MachineError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse

WRITTEN_ANEW = "status postcopy-device"


def concerns(facts: Facts) -> bool:
    """Whether an emulated guest may be moved by post-copy."""
    return facts.may_switch and facts.started is not None and facts.started.accel == "tcg"


def judge(facts: Facts) -> list[Finding]:
    """An error where the source's QEMU switches so."""
    known = facts.source_qemu
    if known is None or not known.has(WRITTEN_ANEW):
        return []
    return [
        refuse(
            MachineError,
            f"post-copy may damage {facts.guest}: QEMU {known.version} on {facts.source} was seen to send an emulated "
            "guest's memory with an older state of its processor",
            f"move it by pre-copy (without postcopy-ram), or start it by a QEMU from before 10.2 on {facts.source}",
        )
    ]


CHECK = Check("emulated switch", When.BEFORE, judge, needs=("source_qemu",), concerns=concerns)
