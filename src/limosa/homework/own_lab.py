"""The student's own lab: what keeps the homework from beginning at all, and what its guest can be asked for."""

from __future__ import annotations

from collections.abc import Sequence

from limosa import process
from limosa.errors import LimosaError, MachineError
from limosa.lab import Lab

LOGIN_S = 60.0


async def require_ready(lab: Lab) -> None:
    """Look at the hosts that have a system of their own, before anything is made. Raises MachineError for the first
    thing that one of them lacks."""
    if not any(host.traits.own_system for host in lab.spec.hosts.values()):
        return
    for examined in await lab.hosts.examine():
        for finding in examined.findings:
            if finding.required and not finding.ok:
                hint = finding.fix or f"limosa doctor --lab {lab.spec.file}"
                raise MachineError(f"{examined.name}: {finding.name}: {finding.detail}", hint=hint)


async def missing(lab: Lab, guest: str, programs: Sequence[str]) -> list[str]:
    """Those of *programs* that the running *guest* lacks: none of a system that limosa built, all where nobody can log
    in."""
    if lab.guest(guest).image_kind.built:
        return []
    look = ["sh", "-c", f"for each in {' '.join(programs)}; do command -v $each; done; true"]
    try:
        done = await process.run(lab.guests.ssh(guest, look), check=False, timeout_s=LOGIN_S)
    except LimosaError:
        return list(programs)
    there = {line.rpartition("/")[2] for line in done.text.split()}
    return [program for program in programs if program not in there]


def note(guest: str, lacking: Sequence[str]) -> str:
    """What is left out, and what would have it in."""
    text = f"{guest} has no {' and '.join(lacking)}: what they measure during a migration is left out."
    return f"{text} Install them in it, and run limosa homework again."
