"""What makes a bench of migrations unsound, or needs saying."""

from __future__ import annotations

from limosa.bench.during.compare import Moved
from limosa.bench.soundness import STEAL_CAUTION, steal
from limosa.results.account import Finding, gravest_first
from limosa.results.rest import short, shortfall
from limosa.units import format_number

LOAD_PER_CPU = 1.5
"""Before a bench of migrations: the guest itself has just started, which is a load of 1."""


def of_migrations(found: list[Moved]) -> list[Finding]:
    """What makes a bench of migrations unsound, or needs saying; the gravest first."""
    known = [environment for moved in found if (environment := moved.environment) is not None]
    said: list[Finding] = []
    share = max((environment.steal_share or 0.0 for environment in known), default=0.0)
    if share > STEAL_CAUTION:
        said.append(steal(share, "while one of the loads was measured"))
    starved = [found_at for moved in found if (found_at := moved.starved_at) is not None]
    if starved:
        text = "The guest wanted a whole CPU for sysbench, and before or during a move this machine gave it only"
        text += f" {format_number(min(starved), 2)} of one:"
        text += " such a speed is that of a queue for CPUs and says little of the move."
        said.append(Finding(rule="starved", severity="unsound", text=text))
    if known:
        first, cpus = known[0], max((host.cpus for host in known[0].hosts.values()), default=1)
        load = first.load_average_before
        if load is not None and load > LOAD_PER_CPU * cpus:
            text = f"The machine had a load of {load:.1f} on {cpus} CPUs before the bench began."
            said.append(Finding(rule="load", severity="caution", text=text))
        if first.governor not in ("", "performance"):
            text = f"The CPU's frequency follows the load (governor {first.governor})."
            said.append(Finding(rule="governor", severity="caution", text=text))
        if first.accel == "tcg":
            text = (
                f"The guest ran without KVM ({first.accel_reason}): its CPU, the migration and the client's work share"
            )
            text += " this machine's CPUs, and levels are those of an emulated guest."
            said.append(Finding(rule="emulated", severity="caution", text=text))
    for moved in found:
        if slow := [shortfall(rate) for rate in moved.rates if short(rate)]:
            text = f"{'; '.join(slow)} ({moved.part.method}, {moved.part.load}): silences are read the more coarsely."
            said.append(Finding(rule="short-rate", severity="caution", text=text))
    if known and max(moved.part.repetition for moved in found) == 1:
        text = "Each load went through one migration: the intervals tell the scatter of samples within that move, as if"
        text += " they were independent, and not how moves differ. --repeat shows that."
        said.append(Finding(rule="one-move", severity="note", text=text))
    return gravest_first(said)
