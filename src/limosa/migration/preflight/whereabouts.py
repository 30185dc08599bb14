"""Whether the guest can go from where it is to the target: both on, joined by the network, and not the same."""

from __future__ import annotations

from limosa.errors import StateError
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, note, refuse, refused, warn


def judge(facts: Facts) -> list[Finding]:
    """The first reason why it cannot; else what the move does beforehand."""
    guest, source, target = facts.guest, facts.source, facts.target
    if source == target:
        free = ", ".join(name for name in facts.hosts if name != target)
        return [refuse(StateError, f"guest {guest} is on {target} already", f"other hosts: {free or 'none'}")]
    if facts.absent is not None:
        return [refused(facts.absent)]
    if facts.status != "running":
        return [refuse(StateError, f"guest {guest} is {facts.status} on {source}", "only a running guest migrates")]
    if off := next((host for host in (target, source) if host in facts.cut), ""):
        return [refuse(StateError, f"host {off} is cut off from the network", f"limosa host restore {off}")]
    return _beforehand(facts)


def _beforehand(facts: Facts) -> list[Finding]:
    found = []
    if facts.unfinished:
        found.append(warn(f"an interrupted migration of {facts.guest} is finished or undone first"))
    if facts.leftover:
        found.append(note(f"what an earlier migration of {facts.guest} left on {facts.target} is ended first"))
    return found


CHECK = Check("place", When.FIRST, judge)
