"""Whether the guest has anything that its QEMU cannot move, as that itself tells."""

from __future__ import annotations

from limosa.errors import StateError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse


def judge(facts: Facts) -> list[Finding]:
    """An error for each reason."""
    assert facts.blockers is not None, "it was needed"
    fix = f"start {facts.guest} without it; until then limosa stop {facts.guest} and a start elsewhere move it cold"
    return [refuse(StateError, f"{facts.guest} cannot leave {facts.source}: {why}", fix) for why in facts.blockers]


CHECK = Check("blockers", When.BESIDE, judge, needs=("blockers",))
