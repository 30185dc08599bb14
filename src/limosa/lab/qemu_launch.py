"""The command line of a guest's QEMU on one host, from what was recorded when the guest was started, and whether the
host has room for it.

A migration needs this and nothing of ``preparation``, whose imports a fast command does not pay for.
"""

from __future__ import annotations

import contextlib

import msgspec

from limosa.errors import LimosaError, SpecError, StateError
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHost, LabHosts
from limosa.lab.record import GuestRecord, OwnDisk
from limosa.migration.preflight import target_room
from limosa.network import layout
from limosa.qemu import argv, features
from limosa.qemu.launches import runtime_directory
from limosa.spec import resolved


async def offers(hosts: LabHosts, accel: str = "tcg") -> dict[str, features.Features]:
    """What the QEMU of each host that is on can do. Raises MachineError when one is missing or too old."""
    return {name: await hosts.named(name).offer(accel) for name in hosts.on}


def plan(
    lab: resolved.Lab,
    guest: resolved.Guest,
    record: GuestRecord,
    host: LabHost,
    known: features.Features,
    launch_id: str,
    *,
    incoming: bool = False,
) -> argv.Launch:
    """The guest's QEMU on *host*, to start there or as the target of a migration. *launch_id* is what it bears."""
    disk = _disk(guest.disk, record) if guest.disk and record.disk else None
    own = record.own_disk or OwnDisk(format="")
    return argv.Launch(
        lab=lab.name,
        guest=guest,
        qemu=host.spec.qemu,
        features=known,
        accel="kvm" if record.accel == "kvm" else "tcg",
        machine=record.machine,
        cpu=record.cpu,
        ram_bytes=record.ram_bytes,
        runtime_directory=runtime_directory(host.port, guest.name),
        serial_log=host.serial_log(guest.name),
        firmware=host.spec.qemu_firmware,
        kernel=record.kernel,
        initrd=record.initrd,
        append=record.append,
        disk=disk,
        seed=own.seed,
        firmware_code=own.firmware_code,
        firmware_vars=own.firmware_vars,
        tap=layout.tap(lab, guest.name, host.name) if guest.network else "",
        id=launch_id,
        incoming=incoming,
    )


async def check_room(guest: LabGuest, host: LabHost) -> None:
    """Raise MachineError unless *host* has memory for *guest* beside the other guests that it has."""
    if lacking := target_room.refusal(guest.name, host.name, guest.spec.memory_bytes, await room_bytes(guest, host)):
        raise lacking.error()


async def room_bytes(guest: LabGuest, host: LabHost) -> int:
    """The memory that *host* has for *guest* beside the other guests; less than none where they have too much."""
    limit, available = host.spec.memory_bytes, (await host.port.facts()).memory_available_bytes
    return available if limit is None else min(available, limit - _taken_bytes(guest, host))


def _taken_bytes(guest: LabGuest, host: LabHost) -> int:
    """Guest memory that other guests of this lab hold on *host* already, by their records."""
    taken = 0
    for other in guest.hosts.lab.guests.values():
        with contextlib.suppress(StateError):  # one that cannot be read
            record = guest.hosts.directory.guest_record(other.name) if other is not guest.spec else None
            if record is not None and record.host == host.name:
                taken += other.memory_bytes
    return taken


def unknown_guest(lab: resolved.Lab, name: str) -> LimosaError:
    """The error for a guest that the lab does not have."""
    return _unknown("guest", name, list(lab.guests))


def unknown_host(lab: resolved.Lab, name: str) -> LimosaError:
    """The error for a host that the lab does not have."""
    return _unknown("host", name, list(lab.hosts))


def _unknown(kind: str, name: str, known: list[str]) -> LimosaError:
    import difflib

    near = difflib.get_close_matches(name, known, 2)
    alike = [difflib.SequenceMatcher(None, each, name).ratio() for each in near]
    # Of host3 neither host1 nor host2 is the more likely.
    hint = (
        f"did you mean {near[0]}?"
        if near and alike.count(alike[0]) == 1
        else f"the lab has: {', '.join(known) or 'none'}"
    )
    return SpecError(f"there is no {kind} called {name}", hint=hint)


def _disk(disk: resolved.Disk, record: GuestRecord) -> argv.DiskFile:
    made = argv.DiskFile(record.disk, disk.format, direct=disk.cache == "none", bus=disk.bus)
    if (own := record.own_disk) is None:
        return made
    return msgspec.structs.replace(made, format=own.format, base=own.base, base_format=own.base_format)
