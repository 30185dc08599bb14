"""The command line of a guest's QEMU, as a pure function of a small frozen input.

Everything that decides what virtual hardware the guest sees is named here and fixed: addresses, ids, MACs and the
identity. Source and target are therefore the same machine by construction, whichever QEMU runs it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Literal

import msgspec

from limosa.architecture import X86_64
from limosa.errors import SpecError
from limosa.qemu.features import MONITOR, Features
from limosa.qemu.launches import LAUNCH, PIDFILE
from limosa.qemu.ram import ram_bytes
from limosa.spec.resolved import DiskBus, Guest

UUID_ROOT = uuid.UUID("6f1d2b7e-3c1f-5a0e-9a55-1a11a90417ca")
"""The name space of guests' UUIDs; a random constant of ours (RFC 4122, version 5)."""

AGENT_PORT = "org.limosa.agent.0"
"""The name of the virtio-serial port that the agent in the guest opens."""

RANDOM = "rng0"
"""The id of the random number device."""

VIDEO_ROM_BYTES = 64 * 1024
"""The room for the card's BIOS is moved with the guest and has to be as large on both sides, whatever the package."""

SCREEN_SOCKET = "screen.qmp"
SOCKETS = ("control.qmp", "observe.qmp", SCREEN_SOCKET, "serial.sock", "agent.sock")
SOCKET_PATH_LIMIT = 107
"""The bytes of ``sun_path`` less the final zero (unix(7))."""


class DiskFile(msgspec.Struct, frozen=True):
    """A disk image as the host sees it. ``direct`` passes the host's page cache by, which tmpfs may not allow."""

    path: str
    format: Literal["raw", "qcow2"] = "raw"
    direct: bool = False
    bus: DiskBus = "virtio-blk"
    base: str = ""
    """What a qcow2 overlay is laid over; it is only read, and guests share it."""
    base_format: Literal["raw", "qcow2"] = "raw"


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """All that a command line depends on. Paths are the host's; empty text means: without."""

    lab: str
    guest: Guest
    qemu: str
    features: Features
    accel: Literal["kvm", "tcg"]
    machine: str
    """A versioned machine type."""
    cpu: str
    runtime_directory: str
    """Where the sockets (SOCKETS) and the pid file (PIDFILE) go."""
    serial_log: str
    """The file that everything on the serial console is appended to."""
    firmware: tuple[str, ...] = ()
    kernel: str = ""
    initrd: str = ""
    append: str = ""
    ram_bytes: int | None = None
    """What QEMU gets for memory, on source and target alike; None: a size with which no QEMU loses a write."""
    disk: DiskFile | None = None
    seed: str = ""
    """The disk from which cloud-init learns address and keys."""
    firmware_code: str = ""
    """UEFI's program, which is only read; empty: the machine's BIOS."""
    firmware_vars: str = ""
    """UEFI's settings, the guest's own."""
    tap: str = ""
    id: str = ""
    """Tells this launch from every other, anywhere; empty for a command line that is only shown."""
    incoming: bool = False
    """Whether this QEMU waits for a migration instead of starting the guest."""


class Argument(msgspec.Struct, frozen=True):
    """One option with its value, and the key of its sentence in ``purpose``."""

    option: str
    value: str
    purpose: str


def command_line(launch: Launch) -> tuple[str, ...]:
    """The argv that starts this guest. Raises SpecError when a socket's path would be too long."""
    words = [launch.qemu]
    for argument in arguments(launch):
        words += [argument.option, argument.value] if argument.value else [argument.option]
    return tuple(words)


def arguments(launch: Launch) -> tuple[Argument, ...]:
    """The same, one option at a time. Raises SpecError when a socket's path would be too long."""
    longest = max((f"{launch.runtime_directory}/{name}" for name in SOCKETS), key=len)
    if len(longest.encode()) > SOCKET_PATH_LIMIT:
        raise SpecError(
            f"the path {longest} is too long for a unix socket ({SOCKET_PATH_LIMIT} bytes at most)",
            hint="give the lab and the guest shorter names, or set XDG_RUNTIME_DIR to a shorter path",
        )
    devices = launch.guest.image_kind.has_devices
    return (
        *_process(launch),
        *(_flash(launch) if launch.firmware_code else ()),
        *_machine(launch),
        *_monitors(launch),
        *_console(launch),
        *(_video(launch) if launch.guest.display == "vga" else ()),
        *(_agent(launch) + _random() if devices else ()),
        *(_network(launch) if launch.tap and devices else ()),
        *(_disk(launch.disk) if launch.disk and devices else ()),
        *(_seed(launch.seed) if launch.seed else ()),
        *_boot(launch),
    )


def guest_uuid(lab: str, guest: str) -> str:
    """The same UUID for the same guest of the same lab, always."""
    return str(uuid.uuid5(UUID_ROOT, f"{lab}/{guest}"))


def _process(launch: Launch) -> tuple[Argument, ...]:
    deny = ("obsolete", "elevateprivileges", "spawn", "resourcecontrol")
    return (
        Argument("-name", f"guest={_escaped(f'{launch.lab}/{launch.guest.name}')},debug-threads=on", "name"),
        Argument("-uuid", guest_uuid(launch.lab, launch.guest.name), "uuid"),
        Argument("-nodefaults", "", "nodefaults"),
        Argument("-no-user-config", "", "no-user-config"),
        Argument("-display", "none", "display"),
        Argument("-sandbox", "on," + ",".join(f"{what}=deny" for what in deny), "sandbox"),
        Argument("-msg", "timestamp=on", "msg"),
        Argument("-pidfile", f"{launch.runtime_directory}/{PIDFILE}", "pidfile"),
        *((Argument("-chardev", f"{LAUNCH}{launch.id}", "launch"),) if launch.id else ()),
        *(Argument("-L", folder, "firmware") for folder in launch.firmware),
    )


def _machine(launch: Launch) -> tuple[Argument, ...]:
    known = launch.features.machine(launch.machine)
    ram = known.ram_id if known and known.ram_id else X86_64.ram_id
    on_ahci = launch.disk is not None and launch.disk.bus == "sata"
    flash = "".join(f",{chip}={node}" for chip, node in X86_64.flash) if launch.firmware_code else ""
    switches = X86_64.machine_switches(launch.disk.bus if launch.disk is not None else None)
    machine = f"{launch.machine},memory-backend={ram}{flash},{switches}"
    size = ram_bytes(launch.guest.memory_bytes, launch.accel) if launch.ram_bytes is None else launch.ram_bytes
    backend = {"qom-type": "memory-backend-ram", "id": ram, "size": size, "merge": False, "dump": False}
    cpus = launch.guest.cpus
    return (
        Argument("-machine", machine, "machine-sata" if on_ahci else "machine"),
        Argument("-accel", "tcg,thread=multi" if launch.accel == "tcg" else "kvm", f"accel-{launch.accel}"),
        Argument("-cpu", launch.cpu, "cpu-host" if launch.cpu.split(",")[0] == "host" else "cpu"),
        Argument("-smp", f"cpus={cpus},sockets=1,cores={cpus},threads=1", "smp"),
        Argument("-m", f"size={size // 1024}k", "memory"),
        Argument("-object", _json(backend), "memory-backend"),
        Argument("-rtc", "base=utc,clock=host", "rtc"),
    )


def _monitors(launch: Launch) -> tuple[Argument, ...]:
    found = []
    for name in ("control", "observe"):
        path = f"{launch.runtime_directory}/{name}.qmp"
        found.append(Argument("-chardev", _listener(name, path), f"{name}-socket"))
        found.append(_monitor(launch, name))
    return tuple(found)


def _monitor(launch: Launch, name: str) -> Argument:
    """QMP on the socket *name*, in the words that this QEMU wants."""
    if MONITOR in launch.features.types:
        monitor = {"qom-type": MONITOR, "id": f"{name}-qmp", "chardev": name}
        return Argument("-object", _json(monitor), f"{name}-monitor")
    return Argument("-mon", f"chardev={name},mode=control", f"{name}-monitor")


def _console(launch: Launch) -> tuple[Argument, ...]:
    log = f",logfile={_escaped(launch.serial_log)},logappend=on"
    listener = _listener("console", f"{launch.runtime_directory}/serial.sock") + log
    device = {"driver": X86_64.console, "id": "serial0", "chardev": "console", "index": 0}
    return (
        Argument("-chardev", listener, "console-socket"),
        Argument("-device", _json(device), "console"),
    )


def _video(launch: Launch) -> tuple[Argument, ...]:
    path = f"{launch.runtime_directory}/{SCREEN_SOCKET}"
    card = _emulated("VGA", "video0", "video") | {"romsize": VIDEO_ROM_BYTES}
    return (
        Argument("-device", _json(card), "video"),
        Argument("-chardev", _listener("screen", path), "screen-socket"),
        _monitor(launch, "screen"),
    )


def _agent(launch: Launch) -> tuple[Argument, ...]:
    port = {"driver": "virtserialport", "id": "agent0", "bus": "serial1.0", "nr": 1}
    return (
        Argument("-device", _json(_pci("virtio-serial-pci", "serial1", "serial")), "agent-bus"),
        Argument("-chardev", _listener("agent", f"{launch.runtime_directory}/agent.sock"), "agent-socket"),
        Argument("-device", _json(port | {"chardev": "agent", "name": AGENT_PORT}), "agent"),
    )


def _random() -> tuple[Argument, ...]:
    return (
        Argument("-object", _json({"qom-type": "rng-builtin", "id": "entropy"}), "rng-source"),
        Argument("-device", _json(_pci("virtio-rng-pci", RANDOM, "rng") | {"rng": "entropy"}), "rng"),
    )


def _network(launch: Launch) -> tuple[Argument, ...]:
    nic = launch.guest.nic
    vhost = "on" if nic == "vhost-net" else "off"
    backend = f"tap,id=tap0,ifname={_escaped(launch.tap)},script=no,downscript=no,vhost={vhost}"
    emulated = nic in X86_64.emulated_nics
    device = _emulated(nic, "net0", "net") if emulated else _pci("virtio-net-pci", "net0", "net")
    rest = {"netdev": "tap0", "mac": launch.guest.mac, "romfile": ""}
    return (
        Argument("-netdev", backend, "netdev-vhost" if vhost == "on" else "netdev"),
        Argument("-device", _json(device | rest), f"net-{nic}" if emulated else "net"),
    )


def _flash(launch: Launch) -> tuple[Argument, ...]:
    """UEFI: the program and its settings, as the two flash chips that a real board has."""
    found = []
    for name, path, fixed in (("code", launch.firmware_code, True), ("vars", launch.firmware_vars, False)):
        file = {"driver": "file", "filename": path, "locking": "on"}
        node = {"driver": "raw", "node-name": f"firmware-{name}", "read-only": fixed, "file": file}
        found.append(Argument("-blockdev", _json(node), f"firmware-{name}"))
    return tuple(found)


def _seed(path: str) -> tuple[Argument, ...]:
    file = {"driver": "file", "filename": path, "locking": "on"}
    node = {"driver": "raw", "node-name": "seed", "read-only": True, "file": file}
    device = _pci("virtio-blk-pci", "seed0", "seed") | {"drive": "seed"}
    return (
        Argument("-blockdev", _json(node), "seed-file"),
        Argument("-device", _json(device), "seed"),
    )


def _base(disk: DiskFile) -> tuple[Argument, ...]:
    """What the overlay is laid over, named here: what the overlay's own header says is not followed."""
    if not disk.base:
        return ()
    cache = {"direct": disk.direct, "no-flush": False}
    file = {"driver": "file", "filename": disk.base, "locking": "on", "aio": "threads", "cache": cache}
    # A raw base is as long as it is; only qcow2 can have a base of its own, which is forbidden.
    alone: dict[str, object] = {"backing": None} if disk.base_format == "qcow2" else {}
    node = {"driver": disk.base_format, "node-name": "base", "read-only": True, "cache": cache, **alone, "file": file}
    return (Argument("-blockdev", _json(node), "disk-base"),)


def _disk(disk: DiskFile) -> tuple[Argument, ...]:
    common = {"discard": "unmap", "cache": {"direct": disk.direct, "no-flush": False}}
    file = {"driver": "file", "node-name": "root-file", "filename": disk.path, "locking": "on", "aio": "threads"}
    image: dict[str, object] = {"driver": disk.format, "node-name": "root", "file": "root-file"}
    if disk.format == "qcow2":
        # Named or forbidden here: what the file's own header says is not followed.
        image["backing"] = "base" if disk.base else None
    return (
        *_base(disk),
        Argument("-blockdev", _json({**file, **common}), "disk-file-direct" if disk.direct else "disk-file"),
        Argument("-blockdev", _json({**image, **common}), "disk-overlay" if disk.base else f"disk-{disk.format}"),
        *_disk_devices(disk.bus),
    )


def _disk_devices(bus: DiskBus) -> tuple[Argument, ...]:
    drive = {"drive": "root", "bootindex": 1}
    if bus == "virtio-blk":
        return (Argument("-device", _json(_pci("virtio-blk-pci", "disk0", "disk") | drive), "disk"),)
    if bus == "sata":
        disk = {"driver": "ide-hd", "id": "disk0", "bus": X86_64.sata_bus}
        return (Argument("-device", _json(disk | drive), "disk-sata"),)
    return (
        Argument("-device", _json(_pci("virtio-scsi-pci", "scsi0", "disk")), "scsi"),
        Argument("-device", _json({"driver": "scsi-hd", "id": "disk0", "bus": "scsi0.0"} | drive), "disk-scsi"),
    )


def _boot(launch: Launch) -> tuple[Argument, ...]:
    given = (("-kernel", launch.kernel), ("-initrd", launch.initrd), ("-append", launch.append))
    minimal = launch.guest.image_kind.minimal_firmware
    return (
        *((Argument("-bios", X86_64.small_firmware, "bios"),) if minimal else ()),
        *(Argument(option, value, option.lstrip("-")) for option, value in given if value),
        Argument("-boot", "menu=off,strict=on", "boot"),
        *((Argument("-incoming", "defer", "incoming"),) if launch.incoming else ()),
    )


def _pci(driver: str, name: str, slot: str) -> dict[str, object]:
    """A virtio device of the 1.0 standard at its fixed place: left to itself it would offer the old interface too."""
    return {"driver": driver, "id": name, "bus": X86_64.root_bus, "addr": X86_64.slots[slot], "disable-legacy": "on"}


def _emulated(driver: str, name: str, slot: str) -> dict[str, object]:
    """A device of conventional PCI at its fixed place."""
    return {"driver": driver, "id": name, "bus": X86_64.root_bus, "addr": X86_64.slots[slot]}


def _listener(name: str, path: str) -> str:
    return f"socket,id={name},path={_escaped(path)},server=on,wait=off"


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _escaped(text: str) -> str:
    """QEMU's own options are divided by commas; a doubled comma stands for itself."""
    return text.replace(",", ",,")
