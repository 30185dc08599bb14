"""The command line of a guest's QEMU on one host, from what was recorded when the guest was started.

A migration needs this and nothing of ``preparation``, whose imports a fast command does not pay for.
"""

from __future__ import annotations

import msgspec

from limosa.errors import LimosaError, MachineError, SpecError
from limosa.hosts.host import Host
from limosa.lab.hosts import LabHosts
from limosa.lab.record import GuestRecord, OwnDisk
from limosa.network import layout
from limosa.qemu import argv, features
from limosa.qemu.launches import runtime_directory
from limosa.spec import resolved


async def offers(hosts: LabHosts, accel: str = "tcg") -> dict[str, features.Features]:
    """What the QEMU of each host that is on can do. Raises MachineError when one is missing or too old."""
    return {name: await offer(hosts, name, accel) for name in hosts.on}


async def offer(hosts: LabHosts, host: str, accel: str = "tcg") -> features.Features:
    """What the QEMU of *host* can do, from the cache when the binary has been asked before."""
    spec = hosts.lab.hosts[host]
    identity = features.local_identity(spec.qemu) if spec.kind == "namespaces" else ""
    return await features.probe(hosts.host(host), spec.qemu, spec.qemu_firmware, identity=identity, accel=accel)


def plan(
    hosts: LabHosts,
    guest: resolved.Guest,
    record: GuestRecord,
    host: str,
    known: features.Features,
    launch_id: str,
    *,
    incoming: bool = False,
) -> argv.Launch:
    """The guest's QEMU on *host*, to start there or as the target of a migration. *launch_id* is what it bears."""
    disk = _disk(guest.disk, record) if guest.disk and record.disk else None
    place = hosts.host(host)
    own = record.own_disk or OwnDisk(format="")
    return argv.Launch(
        lab=hosts.lab.name,
        guest=guest,
        qemu=hosts.lab.hosts[host].qemu,
        features=known,
        accel="kvm" if record.accel == "kvm" else "tcg",
        machine=record.machine,
        cpu=record.cpu,
        ram_bytes=record.ram_bytes,
        runtime_directory=runtime_directory(place, guest.name),
        serial_log=serial_log(place, guest.name),
        firmware=hosts.lab.hosts[host].qemu_firmware,
        kernel=record.kernel,
        initrd=record.initrd,
        append=record.append,
        disk=disk,
        seed=own.seed,
        firmware_code=own.firmware_code,
        firmware_vars=own.firmware_vars,
        tap=layout.tap(hosts.lab, guest.name, host) if guest.network else "",
        id=launch_id,
        incoming=incoming,
    )


def serial_log(host: Host, guest: str) -> str:
    """Where *host* sees the log of what *guest* printed on its serial console there."""
    return f"{host.runtime_directory}/log/{guest}@{host.name}.console.log"


def qemu_log(host: Host, guest: str) -> str:
    """Where *host* sees what QEMU itself said."""
    return f"{host.runtime_directory}/log/{guest}@{host.name}.qemu.log"


async def logs(host: Host, lines: int) -> dict[str, str]:
    """The ends of the logs that *host* keeps itself, by their files' names."""
    show = 'cd "$1" && for f in *.log; do [ -f "$f" ] && echo "$f" && tail -n "$2" -- "$f" && printf "\\0"; done'
    done = await host.run(["sh", "-c", show, "sh", f"{host.runtime_directory}/log", str(lines)], check=False)
    parts = [part.partition("\n") for part in done.stdout.decode(errors="replace").split("\0") if part]
    return {name: text for name, _, text in parts}


def check_room(hosts: LabHosts, guest: resolved.Guest, host: str, taken_bytes: int, available_bytes: int) -> None:
    """Raise MachineError unless *host* has memory for *guest* beside *taken_bytes* of other guests' there."""
    limit = hosts.lab.hosts[host].memory_bytes
    left = available_bytes if limit is None else min(available_bytes, limit - taken_bytes)
    if guest.memory_bytes > left:
        from limosa.units import format_bytes

        raise MachineError(
            f"{host} has no room for {guest.name}: it needs {format_bytes(guest.memory_bytes)}, "
            f"{format_bytes(max(0, left))} are left",
            hint="stop another guest there, or lower the guest's `memory`",
        )


def unknown_guest(lab: resolved.Lab, name: str) -> LimosaError:
    """The error for a guest that the lab does not have."""
    return _unknown("guest", name, list(lab.guests))


def unknown_host(lab: resolved.Lab, name: str) -> LimosaError:
    """The error for a host that the lab does not have."""
    return _unknown("host", name, list(lab.hosts))


def _unknown(kind: str, name: str, known: list[str]) -> LimosaError:
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"the lab has: {', '.join(known) or 'none'}"
    return SpecError(f"there is no {kind} called {name}", hint=hint)


def _disk(disk: resolved.Disk, record: GuestRecord) -> argv.DiskFile:
    made = argv.DiskFile(record.disk, disk.format, direct=disk.cache == "none", bus=disk.bus)
    if (own := record.own_disk) is None:
        return made
    return msgspec.structs.replace(made, format=own.format, base=own.base, base_format=own.base_format)
