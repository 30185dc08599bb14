"""How far the clocks of the two machines are apart: logs are compared by them, and a pause that one machine begins and
the other ends is measured by them."""

from __future__ import annotations

from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, note, warn

TOLERATED_S = 1.0
"""A greater difference is told."""


def concerns(facts: Facts) -> bool:
    """One machine has one clock."""
    return not facts.same_machine


def judge(facts: Facts) -> list[Finding]:
    """A warning where they are far apart; else how far."""
    assert facts.clocks is not None, "it was needed"
    ahead_s, give_or_take_s = facts.clocks.ahead_ns / 1e9, facts.clocks.uncertainty_ns / 1e9
    told = (
        f"the clock of {facts.target} is {ahead_s:+.3f} s from that of {facts.source}, give or take "
        f"{give_or_take_s:.3f} s"
    )
    if abs(ahead_s) <= TOLERATED_S + give_or_take_s:
        return [note(told)]
    return [warn(told, f"run an NTP client (systemd-timesyncd, chrony) on {facts.source} and {facts.target}")]


CHECK = Check("clocks", When.BESIDE, judge, needs=("clocks",), concerns=concerns)
