"""Whether a guest's stream is encrypted, and with whose keys: by what is asked for, and by where the two hosts are."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from limosa import tasks
from limosa.errors import SpecError
from limosa.lab.lab_hosts import LabHost
from limosa.lab.record import LabDirectory
from limosa.migration.plan import MigrationPlan
from limosa.migration.transport import TCP, Side, Transport
from limosa.spec.resolved import Tls

if TYPE_CHECKING:
    from limosa.migration.credentials import Credentials


async def transport(wish: Tls | None, source: LabHost, target: LabHost) -> Transport:
    """How a stream goes from *source* to *target*. Raises SpecError or MachineError for keys of the user's own with
    which the two would not come together; nothing is changed."""
    leaves = not (source.spec.here and target.spec.here)
    if wish == "off" or (wish != "on" and not leaves):
        return TCP
    with_keys = [host for host in (source, target) if host.spec.tls]
    await tasks.load("limosa.migration.certificates")
    if not with_keys:
        return Transport(kind="tls", expected=target.name, admitted=f"CN={source.name}")
    if len(with_keys) == 1:
        (has,), (lacks,) = with_keys, [host for host in (source, target) if not host.spec.tls]
        raise SpecError(
            f"{has.name} has keys of your own (`tls:`), and {lacks.name} has none",
            hint=f"give {lacks.name} a folder with keys too, or have limosa make both",
        )
    from limosa.migration import credentials

    sides: tuple[tuple[LabHost, Side], ...] = ((source, "source"), (target, "target"))
    seen = await tasks.together(credentials.shown(host.port, host.spec.tls, side) for host, side in sides)
    return credentials.of_own(seen[0], seen[1], _names(target))


def _names(target: LabHost) -> list[str]:
    """What the lab file calls the target, the best first."""
    machine = target.spec.machine.rpartition("@")[2].partition(":")[0]
    return list(dict.fromkeys(name for name in (target.migration_address, target.name, machine) if name))


def made_for(plan: MigrationPlan, directory: LabDirectory, address: str) -> Credentials | None:
    """The keys of both sides of *plan*; None where it goes without. *address* is the source's in the migration
    network."""
    if plan.transport.kind == "tcp":
        return None
    from limosa.migration.credentials import Credentials

    @functools.cache
    def both() -> Mapping[Side, Mapping[str, bytes]]:
        from limosa.lab import authority

        now = datetime.datetime.now(datetime.UTC)
        key = authority.of(directory, now)
        return {
            "source": authority.files(key, plan.source.host, address, now),
            "target": authority.files(key, plan.target.host, plan.address, now),
        }

    return Credentials(plan.transport, lambda side: both()[side])
