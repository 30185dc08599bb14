"""Whether the bridge that the guest gets on the target lets it be heard at once."""

from __future__ import annotations

from limosa.migration.preflight.check import Check, When
from limosa.migration.preflight.facts import Facts
from limosa.migration.preflight.finding import Finding, warn
from limosa.network import obstacles


def concerns(facts: Facts) -> bool:
    """Whether the guest has a NIC."""
    return facts.started is not None and bool(facts.started.network)


def judge(facts: Facts) -> list[Finding]:
    """A warning where it keeps a new port silent: the guest arrives, and nobody hears it."""
    bridge = facts.bridge
    if bridge is None or not bridge.silence_s:
        return []
    detail, fix = obstacles.silent_bridge(facts.target, bridge.name, bridge.silence_s)
    return [warn(f"{facts.target}: {detail}", fix)]


CHECK = Check("spanning tree", When.BESIDE, judge, needs=("bridge",), concerns=concerns)
