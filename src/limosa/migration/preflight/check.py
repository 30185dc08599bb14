"""What a check is: a name, when its turn is, which facts it needs, and a pure function of them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

import msgspec

from limosa.errors import LimosaError
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refused, warn


class When(enum.IntEnum):
    """In which turn a check is made. An error in one ends the move before the next."""

    FIRST = 0
    """By what is known once it is sure which QEMU is the guest: nobody is asked."""
    BEFORE = 1
    """Before anything is launched."""
    BESIDE = 2
    """While the target's QEMU comes up; nothing is sent before it is over."""
    ASKED = 3
    """Not before each move: only where a person asks what would be."""


def always(_: Facts) -> bool:
    """Whether a check has anything to say of these facts: it always has."""
    return True


class Check:
    """One of them.

    *needs*: the fields of ``Facts`` that have to be gathered for it. *concerns*: whether it has anything to say, by
    what was known before its turn. *vital*: whether a fact that could not be had refuses the move; else that is told.
    """

    def __init__(
        self,
        name: str,
        when: When,
        judge: Callable[[Facts], list[Finding]],
        *,
        needs: tuple[str, ...] = (),
        concerns: Callable[[Facts], bool] = always,
        vital: bool = False,
    ) -> None:
        self.name, self.when, self.judge = name, when, judge
        self.needs, self.concerns, self.vital = needs, concerns, vital


def examine(checks: Iterable[Check], facts: Facts) -> list[Finding]:
    """What *checks* find, in their order. A fact that could not be had is told of once."""
    found, told = list[Finding](), set[str]()
    for check in checks:
        if not check.concerns(facts):
            continue
        lacks = next((name for name in check.needs if name in facts.unknown), "")
        findings = [_unanswered(check, facts.unknown[lacks])] if lacks else check.judge(facts)
        found += [msgspec.structs.replace(finding, check=check.name) for finding in findings if lacks not in told]
        told |= {lacks} - {""}
    return found


def _unanswered(check: Check, why: LimosaError) -> Finding:
    """A question that got no answer is no answer: that is told."""
    return refused(why) if check.vital else warn(f"{check.name}: not known: {why.message}", why.hint)
