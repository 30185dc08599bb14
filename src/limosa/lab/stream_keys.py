"""Whether a guest's stream is encrypted, and with whose keys: by what is asked for, and by where the two hosts are."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from limosa import tasks
from limosa.lab.lab_hosts import LabHost
from limosa.lab.record import LabDirectory
from limosa.migration import own_keys
from limosa.migration.plan import MigrationPlan
from limosa.migration.preflight.facts import Keys
from limosa.migration.transport import TCP, Side, Transport
from limosa.spec import resolved
from limosa.spec.resolved import Tls

if TYPE_CHECKING:
    from limosa.migration.credentials import Credentials
    from limosa.qemu.guest_process import QemuProcess


async def seen(wish: Tls | None, source: LabHost, target: LabHost) -> Keys:
    """Whether a stream from *source* to *target* is to be encrypted, and the keys of the user's own, looked at on their
    hosts. Raises LimosaError for a host that does not tell."""
    if not resolved.encrypts(wish or "auto", source.spec, target.spec):
        return Keys(encrypted=False)
    with_keys = [host for host in (source, target) if host.spec.tls]
    if len(with_keys) == 1:
        (has,), (lacks,) = with_keys, [host for host in (source, target) if not host.spec.tls]
        return Keys(encrypted=True, alone=(has.name, lacks.name))
    await tasks.load("limosa.migration.certificates")
    if not with_keys:
        return Keys(encrypted=True)
    sides: tuple[tuple[LabHost, Side], ...] = ((source, "source"), (target, "target"))
    one, other = await tasks.together(own_keys.shown(host.port, host.spec.tls, side) for host, side in sides)
    return Keys(encrypted=True, shown=(one, other), names=_names(target))


def _names(target: LabHost) -> tuple[str, ...]:
    """What the lab file calls the target, the best first."""
    machine = target.spec.machine.rpartition("@")[2].partition(":")[0]
    return tuple(dict.fromkeys(name for name in (target.migration_address, target.name, machine) if name))


def transport(keys: Keys, source: LabHost, target: LabHost) -> Transport:
    """How a stream goes from *source* to *target*. With keys that are not right, which the check "TLS names" refuses,
    it says what would be done with right ones."""
    if not keys.encrypted:
        return TCP
    if keys.shown is not None and not own_keys.faults(*keys.shown, keys.names):
        return own_keys.transport(*keys.shown, keys.names)
    return Transport(
        kind="tls",
        expected=target.name,
        admitted=f"CN={source.name}",
        source_keys=source.spec.tls,
        target_keys=target.spec.tls,
    )


def made_for(plan: MigrationPlan, directory: LabDirectory, address: str) -> Credentials | None:
    """The keys of both sides of *plan*; None where it goes without. *address* is the source's in the migration
    network."""
    if plan.transport.kind == "tcp":
        return None
    from limosa.migration.credentials import Credentials

    def made(side: Side) -> Mapping[str, bytes]:
        from limosa.lab import authority

        now = datetime.datetime.now(datetime.UTC)
        host, at = (plan.source.host, address) if side == "source" else (plan.target.host, plan.address)
        return authority.files(authority.of(directory, now), host, at, now)

    return Credentials(plan.transport, made)


async def taken_back(plan: MigrationPlan | None, qemus: Iterable[QemuProcess]) -> None:
    """Have these QEMUs hold no keys any more, once the move of *plan* is over."""
    if plan is None or plan.transport.kind == "tcp":
        return
    from limosa.migration.credentials import take_back

    await tasks.each(take_back(qemu) for qemu in qemus)
