"""Whether two hosts with keys of the user's own would come together over TLS.

What QEMU says once they meet, often on one side alone, is said beforehand. Of the keys that limosa makes for each move
there is nothing to look at.
"""

from __future__ import annotations

from limosa.errors import MachineError, SpecError
from limosa.migration import own_keys
from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, refuse


def judge(facts: Facts) -> list[Finding]:
    """An error for each thing that is wrong with them."""
    assert facts.keys is not None, "it was needed"
    if facts.keys.alone is not None:
        has, lacks = facts.keys.alone
        told = f"{has} has keys of your own (`tls:`), and {lacks} has none"
        return [refuse(SpecError, told, f"give {lacks} a folder with keys too, or have limosa make both")]
    if facts.keys.shown is None:
        return []
    found = own_keys.faults(*facts.keys.shown, facts.keys.names)
    return [refuse(MachineError, sentence, fix) for sentence, fix in found]


CHECK = Check("TLS names", When.BEFORE, judge, needs=("keys",), vital=True)
