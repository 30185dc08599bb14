"""Whether somebody else answers for the guest's address: only another MAC counts, as the guest itself is no stranger.

It takes seconds to ask, and what it finds is as wrong where the guest is, so no move waits for it.
"""

from __future__ import annotations

from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, warn


def concerns(facts: Facts) -> bool:
    """Whether the guest has an address in a network that others may be on."""
    return facts.started is not None and bool(facts.started.shared_network)


def judge(facts: Facts) -> list[Finding]:
    """A warning for each."""
    assert facts.taken is not None and facts.started is not None, "both were needed"
    return [
        warn(
            f"{mac} answers for {address} too, the address of {facts.guest}, in the network {facts.started.network}",
            f"switch off who has it, or write another `address` of {facts.guest} in the lab file",
        )
        for address, mac in facts.taken.items()
    ]


CHECK = Check("addresses", When.ASKED, judge, needs=("taken",), concerns=concerns)
