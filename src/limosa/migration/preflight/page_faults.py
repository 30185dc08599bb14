"""Whether the target's kernel lets QEMU fetch pages of a running guest as they are needed: post-copy stands on it.

The true test is the capability on the incoming QEMU, which comes before anything is sent. This tells it beforehand, as
the user that runs QEMU there.
"""

from __future__ import annotations

from limosa.errors import MachineError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse

DEVICE_SINCE = "switchover-ack"
"""A migration capability of QEMU 8.1: that is the first that opens /dev/userfaultfd. Others know the system call."""


def concerns(facts: Facts) -> bool:
    """Whether the move may become post-copy."""
    return facts.may_switch


def judge(facts: Facts) -> list[Finding]:
    """An error where neither way is open."""
    sight, known = facts.target_sight, facts.target_qemu
    assert sight is not None and known is not None, "both were needed"
    if not sight.faults_by_call:
        return []
    opens_device = DEVICE_SINCE in known.migration_capabilities
    if opens_device and not sight.faults_by_device:
        return []
    fix = f"on {facts.target}: sysctl -w vm.unprivileged_userfaultfd=1"
    if opens_device:
        fix += "; or let the user that runs QEMU there open /dev/userfaultfd"
    why = f"the kernel of {facts.target} does not let QEMU {known.version} use userfaultfd: {sight.faults_by_call}"
    return [refuse(MachineError, f"post-copy is not to be had: {why}", fix)]


CHECK = Check("userfaultfd", When.BESIDE, judge, needs=("target_sight", "target_qemu"), concerns=concerns)
