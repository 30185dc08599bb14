"""Whether each file of the guest is there on the target, the same one, and its lock is seen from there.

QEMU locks a disk that a guest writes to. Where the target sees the source's lock, the file is the same and locks go
from host to host; where it does not, nothing would keep the guest from running twice.
"""

from __future__ import annotations

from limosa.errors import MachineError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts, File, Role
from limosa.migration.preflight.finding import Finding, refuse

WRITTEN: tuple[Role, ...] = ("disk", "firmware settings")
"""What the guest writes to: its QEMU holds locks on it."""


def concerns(facts: Facts) -> bool:
    """Whether the guest has files."""
    return facts.started is not None and bool(facts.started.files)


def judge(facts: Facts) -> list[Finding]:
    """An error for each file that is not what it has to be."""
    assert facts.started is not None and facts.source_sight and facts.target_sight, "all were needed"
    found = []
    for role, path in facts.started.files:
        here, there = facts.source_sight.files.get(path), facts.target_sight.files.get(path)
        assert here is not None and there is not None, "each was looked at"
        if (wrong := _access(facts, role, path, there) or _identity(facts, role, path, here, there)) is not None:
            found.append(wrong)
    return found


def _access(facts: Facts, role: Role, path: str, there: File) -> Finding | None:
    target, what = facts.target, f"the {role} of {facts.guest}, {path},"
    if not there.there:
        return refuse(MachineError, f"{what} is not there on {target}", _shared(facts))
    if not there.readable or (role in WRITTEN and not there.writable):
        how = "written" if there.readable else "read"
        fix = f"give the user that runs QEMU on {target} the right to it"
        return refuse(MachineError, f"{what} cannot be {how} on {target}", fix)
    return None


def _identity(facts: Facts, role: Role, path: str, here: File, there: File) -> Finding | None:
    what = f"the {role} of {facts.guest}, {path},"
    if _another(facts, role, here, there):
        return refuse(MachineError, f"{what} is another file on {facts.target} than on {facts.source}", _shared(facts))
    if role in WRITTEN and there.locked is False:
        fix = "without them a guest could run twice: on NFS, mount with version 4 and without `nolock`"
        return refuse(MachineError, f"{facts.target} does not see the locks of {facts.source} on {path}", fix)
    return None


def _another(facts: Facts, role: Role, here: File, there: File) -> bool:
    """Numbers of files say something on one machine alone: each client of a file server has its own."""
    if not here.there:
        return False  # the source has it open, whatever became of its name
    if facts.same_machine:
        return (here.device, here.inode) != (there.device, there.inode)
    if role in WRITTEN:  # its content changes from one look to the next; that its lock is seen proves it
        return there.locked is False and (here.inode, here.size_bytes) != (there.inode, there.size_bytes)
    return (here.size_bytes, here.head) != (there.size_bytes, there.head)


def _shared(facts: Facts) -> str:
    return f"mount the shared storage at the same place on {facts.source} and {facts.target}, or take `kind: nfs`"


CHECK = Check("files", When.BESIDE, judge, needs=("source_sight", "target_sight"), concerns=concerns)
