"""Whether it is on record what the guest was started with: the target has to be given the same."""

from __future__ import annotations

from limosa.errors import StateError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse


def judge(facts: Facts) -> list[Finding]:
    """An error where nothing is."""
    if facts.started is not None:
        return []
    guest = facts.guest
    return [
        refuse(
            StateError,
            f"what guest {guest} was started with is not recorded",
            f"limosa stop {guest}, then limosa start {guest}",
        )
    ]


CHECK = Check("record", When.FIRST, judge, needs=("started",), vital=True)
