"""Whether the guest's virtio devices have queues as other QEMUs give them.

Debian 13's QEMU 10.0.13 gives each queue 1024 entries, whatever its device asks for. QEMU 11.1 does not take a guest
with such: it ends while it loads the devices. In pre-copy the guest stays; in post-copy the guest stands still by then,
and a source before 10.2 does not let it go on.
"""

from __future__ import annotations

from limosa.errors import MachineError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse, warn

USUAL = 8
"""The entries of the one queue of a virtio random number device, which nobody can choose."""


def concerns(facts: Facts) -> bool:
    """Whether the two QEMUs are of different builds: what one of them gives, it takes too."""
    source, target = facts.source_qemu, facts.target_qemu
    return source is not None and target is not None and source.version != target.version


def judge(facts: Facts) -> list[Finding]:
    """An error where the move may become post-copy, else a warning."""
    if facts.queue_entries is None or facts.queue_entries <= USUAL:
        return []
    assert facts.source_qemu is not None and facts.target_qemu is not None, "it concerns two QEMUs"
    given = f"QEMU {facts.source_qemu.version} on {facts.source} gave {facts.guest}'s virtio devices queues of "
    sentence = f"{given}{facts.queue_entries} entries, and QEMU {facts.target_qemu.version} may not take such"
    fix = (
        f"stop {facts.guest} and start it by another QEMU than that of {facts.source}: it keeps the queues that it gets"
    )
    return [refuse(MachineError, sentence, fix) if facts.may_switch else warn(sentence, fix)]


CHECK = Check("virtio queues", When.BESIDE, judge, needs=("queue_entries",), concerns=concerns)
