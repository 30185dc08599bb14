"""Whether the guest's memory is kept in something that post-copy can fill: not in a file on a disk.

Newer QEMUs refuse it on the target. QEMU 7.2 accepts it, and the target dies at the switch, with the guest.
"""

from __future__ import annotations

from limosa.errors import StateError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse

IN_MEMORY = ("tmpfs", "ramfs", "hugetlbfs")
"""File systems, as ``stat -f`` calls them, whose files userfaultfd can fill."""


def concerns(facts: Facts) -> bool:
    """Whether the move may become post-copy."""
    return facts.may_switch


def judge(facts: Facts) -> list[Finding]:
    """An error for each file that is on a disk."""
    assert facts.backends is not None, "it was needed"
    fix = "move it by pre-copy; or start it with memory that is no file, or a file on tmpfs or hugetlbfs"
    return [
        refuse(
            StateError,
            f"post-copy would lose {facts.guest}: its memory {backend.name} is the file {backend.path} on "
            f"{backend.file_system or 'a file system that is not known'}",
            fix,
        )
        for backend in facts.backends
        if backend.file_system not in IN_MEMORY
    ]


CHECK = Check("memory backend", When.BESIDE, judge, needs=("backends",), concerns=concerns, vital=True)
