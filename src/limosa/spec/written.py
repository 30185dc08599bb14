"""What the user writes in a lab file: its keys, their types, and what each is for.

Rule: nothing acts on these types; ``resolution`` turns them into ``resolved``. What can be judged by one
value alone is judged here; what takes two, there. Only this module, ``written_migration`` and
``faults`` know pydantic.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from limosa import units
from limosa.architecture import X86_64
from limosa.spec import host_kinds, image_kinds
from limosa.spec.problems import found, listed, nearest
from limosa.spec.resolved import (
    Accel,
    Cache,
    DiskBus,
    DiskFormat,
    Display,
    Firmware,
    Nic,
    Purpose,
    Seed,
    StorageKind,
)
from limosa.spec.written_migration import EMPTY_IS_DEFAULT, Migration, WrittenMapping

MAX_DELAY_S = 60.0
"""More is a slip of the unit: the moon is 1.3 s away."""

OWN_ADDRESS = "own"
"""Written instead of a host's address: the one that its own system has given it, by DHCP or otherwise."""

MAX_LAB_NAME = 32

_UNQUOTED = ("a name", "a path", "a machine type", "a CPU model")
_WITH_UNIT = ("a size", "a rate", "a time")


def _remark(what: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if what.startswith(_WITH_UNIT):
        return " without a unit"
    return ", put it in quotes" if what.startswith(_UNQUOTED) else ""


def _text(what: str, check: Callable[[str], object]) -> BeforeValidator:
    """A validator for text that *check* accepts; *what* completes the sentence "expected ..."."""

    def validate(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError(f"expected {what}, found {found(value)}{_remark(what, value)}")
        check(value)
        return value

    return BeforeValidator(validate)


def _check_host_kind(value: object) -> object:
    """Kinds are read when a file is checked, not when this is imported: one may be added."""
    if value in (kinds := list(host_kinds.KINDS)):
        return value
    near = nearest(value, kinds) if isinstance(value, str) else ""
    raise ValueError(f"expected {listed(kinds, 'or')}, found {found(value)}{near}")


def _check_name(text: str, longest: int) -> str:
    if re.fullmatch(_name_pattern(longest), text):
        return text
    if len(text) > longest:
        raise ValueError(f"a name here has at most {longest} characters, this has {len(text)}")
    raise ValueError(f"{text!r} is not a name: a to z, then a to z, 0 to 9 and '-', and no '-' at the end")


def _name_pattern(longest: int) -> str:
    return f"[a-z]([a-z0-9-]{{0,{longest - 2}}}[a-z0-9])?"


def _name(longest: int) -> tuple[AfterValidator, WithJsonSchema]:
    """A name that is also part of interface, file and host names, so its letters and its length are few."""
    schema = WithJsonSchema({"type": "string", "pattern": f"^{_name_pattern(longest)}$"})
    return AfterValidator(partial(_check_name, longest=longest)), schema


def check_lab_name(text: str) -> str:
    """*text*, if it can be the name of a lab. Raises ValueError."""
    return _check_name(text, MAX_LAB_NAME)


def check_subnet(text: str) -> ipaddress.IPv4Network:
    """The subnet that *text* names. Raises ValueError, with the spelling that was probably meant."""
    example = "for instance 10.77.1.0/24"
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 subnet, {example}") from None
    if "/" not in text:
        raise ValueError(f"{text!r} is an address, not a subnet: add the prefix length, {example}")
    if interface.ip != interface.network.network_address:
        raise ValueError(f"{text!r} has bits after its prefix, did you mean {interface.network}?")
    network = interface.network
    first_octet = network.network_address.packed[0]
    if first_octet in (0, 127) or first_octet >= 224:
        raise ValueError(f"{text!r} is set aside and cannot be a network, {example}")
    if not 8 <= network.prefixlen <= 29:
        raise ValueError(f"{text!r}: the prefix length is from 8 (16 million addresses) to 29 (6 addresses)")
    return network


def check_address(text: str) -> ipaddress.IPv4Address:
    """The address that *text* names. Raises ValueError."""
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address, for instance 10.77.1.100") from None


def _check_size(text: str) -> None:
    if units.parse_bytes(text) % units.BYTES["MiB"]:
        mebibytes = max(1, round(units.parse_bytes(text) / units.BYTES["MiB"]))
        raise ValueError(f"{text!r} is not a whole number of MiB, did you mean {mebibytes} MiB?")
    if units.parse_bytes(text) == 0:
        raise ValueError("expected more than 0 bytes")


def _check_delay(text: str) -> None:
    if units.parse_seconds(text) > MAX_DELAY_S:
        raise ValueError(f"{text!r} is more than the {MAX_DELAY_S:.0f} s that a link may delay")


def _check_path(text: str) -> None:
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is not a path")


def _check_host_address(text: str) -> None:
    if text != OWN_ADDRESS:
        check_address(text)


def _check_line(text: str) -> None:
    if not text or not text.isprintable():
        raise ValueError(f"{text!r} is not one line of text")


def _check_reference(text: str) -> None:
    if not text:
        raise ValueError("expected a name, found empty text")


def _matching(pattern: str, what: str) -> tuple[BeforeValidator, WithJsonSchema]:
    def check(text: str) -> None:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {what}")

    return _text(what, check), WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


def _check_machine(text: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise ValueError(f"{text!r} is not a machine type such as {X86_64.machine_example}")
    if fault := X86_64.machine_fault(text):
        raise ValueError(fault)


def _check_cpus(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected a whole number, found {found(value)}")
    if not 1 <= value <= X86_64.cpus_max:
        raise ValueError(f"expected a number from 1 to {X86_64.cpus_max}, found {value}")
    return value


def _string(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


_NOT_EMPTY = WithJsonSchema({"type": "string", "minLength": 1})
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_OCTET}\.){{3}}{_OCTET}"

Name = Annotated[str, *_name(15)]
NetworkName = Annotated[str, *_name(12)]
LabName = Annotated[str, *_name(MAX_LAB_NAME)]
Size = Annotated[str, _text("a size such as 512 MiB", _check_size), _string(units.pattern(units.BYTES))]
Rate = Annotated[
    str, _text("a rate such as 1 Gbit/s", units.parse_bits_per_s), _string(units.pattern(units.BITS_PER_S))
]
Delay = Annotated[str, _text("a time such as 2 ms", _check_delay), _string(units.pattern(units.SECONDS))]
Subnet = Annotated[
    str, _text("a subnet such as 10.77.1.0/24", check_subnet), _string(rf"^{_IPV4}/([89]|1[0-9]|2[0-9])$")
]
Address = Annotated[str, _text("an address such as 10.77.1.100", check_address), _string(rf"^{_IPV4}$")]
HostAddress = Annotated[
    str, _text("an address such as 10.77.1.11, or `own`", _check_host_address), _string(rf"^({_IPV4}|{OWN_ADDRESS})$")
]
HostKind = Annotated[
    str, BeforeValidator(_check_host_kind), WithJsonSchema({"type": "string", "enum": list(host_kinds.KINDS)})
]
Interface = Annotated[str, *_matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}", "the name of an interface such as eth0")]
Machine = Annotated[str, *_matching(r"[^\s@:/-][^\s@:/]*(@[^\s@/-][^\s@/]*)?(:[0-9]+)?", "[USER@]HOST[:PORT]")]
ImageName = Annotated[str, *_matching(r"[A-Za-z0-9][A-Za-z0-9._:/-]*", "an image such as images:alpine/3.23")]
ObjectName = Annotated[str, *_matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "a name of the container daemon's")]
Remote = Annotated[str, *_matching(r"https://[^\s/]+", "the address of a daemon such as https://server:8443")]
MountPoint = Annotated[str, *_matching(r"/[^\0\n:,]*[^\0\n:,/]", "an absolute path such as /mnt/nfs")]
Server = Annotated[str, *_matching(r"[A-Za-z0-9][A-Za-z0-9.:-]*", "a host of the lab, or a server's address")]
FilePath = Annotated[str, _text("a path", _check_path), _NOT_EMPTY]
Reference = Annotated[str, _text("a name", _check_reference), _NOT_EMPTY]
MachineType = Annotated[
    str,
    _text(f"a machine type such as {X86_64.machine_example}", _check_machine),
    _string(f"^{X86_64.machine_pattern}$"),
]
CpuModel = Annotated[str, *_matching(r"[A-Za-z0-9][A-Za-z0-9._+,=-]*", "a CPU model such as Haswell-v4")]
GuestImage = Annotated[
    str, *_matching(r"[a-z0-9][a-z0-9._-]{0,62}", "the name of an image: small letters, digits, '.', '_' and '-'")
]
Url = Annotated[str, *_matching(r"https?://[^\s/]+/\S+", "a URL of a file: https://...")]
Sha256 = Annotated[str, *_matching(r"[0-9a-fA-F]{64}", "a SHA-256: 64 hexadecimal digits")]
UserName = Annotated[str, *_matching(r"[a-z_][a-z0-9_-]{0,31}", "the name of a user")]
KernelArguments = Annotated[str, _text("a kernel command line", _check_line), _NOT_EMPTY]
CpuCount = Annotated[
    int, BeforeValidator(_check_cpus), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": X86_64.cpus_max})
]


class Network(WrittenMapping):
    """One broadcast domain that joins hosts, guests and the client that probes them."""

    subnet: Subnet = Field(
        default="", description="IPv4 subnet, `10.77.1.0/24`. Default: the first free `10.77.N.0/24`."
    )
    rate: Rate = Field(default="", description="Rate of each host's link, both ways: `1 Gbit/s`. Default: unshaped.")
    delay: Delay = Field(
        default="",
        description="One-way delay added on each host's link: `2 ms`. Takes netem. Default: none.",
    )
    bridge: Interface = Field(
        default="",
        description="A bridge of this machine that the network is joined with, which is how hosts of several kinds "
        "meet; containers are plugged into it. Default: none; for containers, what the daemon's profile says.",
    )
    client: Address = Field(
        default="",
        description="The client's address, where hosts are namespaces. Default: the subnet's first.",
    )
    purpose: Purpose = Field(
        default="guests",
        description="`guests`: guests and hosts meet here. `migration`: no guest is attached, and migration "
        "traffic takes this network instead of the first one. Default: `guests`.",
    )


class Storage(WrittenMapping):
    """A place for disks that all hosts see at the same path."""

    kind: StorageKind = Field(
        default="directory",
        description="`directory`: a directory that all hosts share. `volume`: a custom volume of the container "
        "daemon. `nfs`: an NFS export. Default: `directory`.",
    )
    path: FilePath = Field(
        default="",
        description="`directory`: an existing one of yours, relative to the lab file; "
        "default: one that belongs to the lab and goes with it. `nfs`: the exported directory, as its server calls it.",
    )
    pool: ObjectName = Field(default="", description="`volume`: the storage pool. Default: `default`.")
    volume: ObjectName = Field(
        default="",
        description="`volume`: the volume's name. One that does not exist is made, and goes with the lab. "
        "Default: the storage's name.",
    )
    server: Server = Field(
        default="", description="`nfs`: the host of the lab that exports the directory, or the address of a server."
    )
    mount: MountPoint = Field(
        default="",
        description="Where all hosts see it: `/mnt/nfs`. Default: below `/run/limosa`; with hosts that are no "
        "namespaces the `path` of a directory, and `/mnt/NAME` of a volume.",
    )


class Host(WrittenMapping):
    """A place where processes run. All keys may be left out: `host1: {}`."""

    kind: HostKind = Field(
        default=host_kinds.NAMESPACES.name,
        description="`namespaces`: Linux namespaces of this machine. `incus`, `lxd`: a container. "
        "`ssh`: a machine that you can log in to. Default: `namespaces`.",
    )
    machine: Machine = Field(
        default="", description="`ssh`: `[USER@]HOST[:PORT]`, or a name of your ssh config. Must be given there."
    )
    image: ImageName = Field(
        default="",
        description="`incus`, `lxd`: what the container is launched from, a local alias or one of a public server. "
        f"Default: `{host_kinds.CONTAINER_IMAGE}`.",
    )
    adopt: ObjectName = Field(
        default="",
        description="`incus`, `lxd`: a container of yours that is used as it is, and kept, instead of a new one.",
    )
    remote: Remote = Field(
        default="", description="`incus`, `lxd`: a daemon elsewhere: `https://server:8443`. Default: this machine's."
    )
    project: ObjectName = Field(default="default", description="`incus`, `lxd`: the project. Default: `default`.")
    links: dict[str, Interface] = Field(
        default={},
        description="Not for namespaces: the interface that carries each network there, by the network's name. "
        "A bridge is used as it is; over any other interface a bridge is made that takes its addresses. "
        "Default: `eth0`, `eth1`, ... in containers; must be given for `ssh`.",
    )
    qemu: FilePath = Field(
        default=X86_64.qemu,
        description="The QEMU of this host: a name on PATH, or a path, relative to the lab file. "
        f"Default: `{X86_64.qemu}`.",
    )
    qemu_firmware: list[FilePath] = Field(
        default=[],
        description="Folders with firmware for that QEMU (its `-L`), for one that was unpacked beside the "
        "distribution's. Default: none.",
    )
    tls: MountPoint = Field(
        default="", description="A folder on this host with keys of yours for the migration stream. Default: made."
    )
    memory: Size = Field(
        default="",
        description="Guest memory that it may hold in all: `4 GiB`. Default: what the machine has.",
    )
    addresses: dict[str, HostAddress] = Field(
        default={},
        description="Its address in each network, by the network's name; `own`: what its own system has, by DHCP or "
        "otherwise. Default: `.11`, `.12`, ...; for containers and machines `own`.",
    )


class Disk(WrittenMapping):
    """A guest's root disk."""

    storage: Reference = Field(default="", description="The storage that holds it, by name. Default: the first one.")
    format: DiskFormat = Field(
        default="raw", description="`raw` or `qcow2`; a `source` that is qcow2 takes `qcow2`. Default: `raw`."
    )
    source: FilePath = Field(
        default="",
        description="A disk file to start from, relative to the lab file; it is copied, never changed. "
        "Default: the image's own disk.",
    )
    bus: DiskBus = Field(
        default="virtio-blk",
        description="What it is attached to: `virtio-blk`, `virtio-scsi`, or `sata` (ide-hd on AHCI); the last two "
        "take the image `micro-generic`. Default: `virtio-blk`.",
    )
    cache: Cache = Field(
        default="writeback",
        description="`writeback`: the host's page cache is used. `none`: it is passed by (O_DIRECT), which tmpfs may "
        "not allow. Default: `writeback`.",
    )
    overlay: bool | None = Field(
        default=None,
        description="For an image that boots by itself: `true`: the guest writes to a qcow2 file of its own over a "
        "base that all guests share. `false`: it gets a whole copy, in `format`. "
        "Default: `true` where the image is qcow2.",
    )


class DiskImage(WrittenMapping):
    """A disk with a system of its own, which boots by itself: a cloud image, or one that you installed.

    One of `path` and `url` says where it is; `url` takes `sha256`.
    """

    path: FilePath = Field(
        default="", description="The disk file, relative to the lab file. It is copied or shared, never changed."
    )
    url: Url = Field(default="", description="Where the disk is fetched from, once; it is kept in the image library.")
    sha256: Sha256 = Field(
        default="",
        description="The SHA-256 that the file must have. `url` takes one; for `path` it is checked if given.",
    )
    format: DiskFormat = Field(default="qcow2", description="`raw` or `qcow2`. Default: `qcow2`.")
    firmware: Firmware = Field(
        default="bios", description="`bios`: SeaBIOS. `uefi`: OVMF, of the package `ovmf`. Default: `bios`."
    )
    user: UserName = Field(default="root", description="Who logs in by SSH. Default: `root`.")
    key: FilePath = Field(
        default="",
        description="Your private key that lets that user in, relative to the lab file. "
        "Default: the lab's own, which the seed brings.",
    )
    ssh: bool = Field(
        default=True, description="`false`: it runs no SSH server; there is the serial console. Default: `true`."
    )
    seed: Seed | None = Field(
        default=None,
        description="`nocloud`: cloud-init is in it, and gets user, key and address by a NoCloud disk. `none`: nothing "
        "is added; it asks for its address by DHCP. Default: `nocloud`, `none` with `key` or with `ssh: false`.",
    )
    kernel: FilePath = Field(
        default="", description="A kernel that QEMU starts directly. Default: what the disk boots by itself."
    )
    initrd: FilePath = Field(default="", description="The initial file system for `kernel`. Default: none.")
    append: KernelArguments = Field(default="", description="The command line for `kernel`. Default: empty.")


def _image_shape(value: object) -> str:
    return "mapping" if isinstance(value, dict | DiskImage) else "name"


class Guest(WrittenMapping):
    """A virtual machine: one QEMU process on one host at a time."""

    host: Reference = Field(description="The host that it starts on, by name. The one key that a guest must have.")
    image: Annotated[
        Annotated[GuestImage, Tag("name")] | Annotated[DiskImage, Tag("mapping")], Discriminator(_image_shape)
    ] = Field(
        default=image_kinds.MICRO.name,
        description=f"{image_kinds.described()} Any other name: an image that was installed or built before, see "
        "`limosa image list`. A mapping: a disk of yours, or a cloud image. "
        f"Default: `{image_kinds.MICRO.name}`.",
    )
    memory: Size = Field(
        default="",
        description=f"Its memory: `512 MiB`. Default: {image_kinds.memory_described()}.",
    )
    cpus: CpuCount = Field(default=1, description="The number of its virtual CPUs. Default: 1.")
    accel: Accel = Field(
        default="auto",
        description="`kvm`: hardware virtualisation. `tcg`: emulation. `auto`: KVM where it is proved "
        "to work, else TCG. Default: `auto`.",
    )
    machine: MachineType = Field(
        default="",
        description=f"A versioned machine type: `{X86_64.machine_example}`. Default: the newest that all hosts know.",
    )
    cpu: CpuModel = Field(
        default="", description="A CPU model: `Haswell-v4`. Default: the best that all hosts can give."
    )
    network: Reference = Field(default="", description="Its network, by name. Default: the first for guests.")
    nic: Nic = Field(
        default="virtio-net",
        description="Its network card: `virtio-net`; `vhost-net`, the same with its packets handled in the host's "
        "kernel; `e1000` or `rtl8139`, emulated real cards, which take the image `micro-generic`. "
        "Default: `virtio-net`.",
    )
    address: Address = Field(
        default="",
        description="Its IPv4 address, the same on every host: `10.77.1.100`. Default: from `.101`.",
    )
    disk: Disk = Field(default=Disk.model_construct(), description="Its root disk, on a storage that all hosts share.")
    display: Display = Field(
        default="none",
        description="`vga`: a VGA card and a keyboard, for `limosa screen`. `none`: the serial console alone. "
        "Default: `none`.",
    )
    migration: Annotated[Migration, EMPTY_IS_DEFAULT] = Field(
        default=Migration(), description="How it is moved, where that differs from the lab's `migration`. Default: not."
    )


class LabFile(WrittenMapping):
    """A migration laboratory: hosts, the networks and the storage that join them, and guests."""

    name: LabName = Field(default="", description="The lab's name. Default: the file's name without `.yaml`.")
    networks: Annotated[dict[NetworkName, Annotated[Network, EMPTY_IS_DEFAULT]], EMPTY_IS_DEFAULT] = Field(
        default={}, description="The networks, by name. Default: one for guests, named `lan`."
    )
    storage: Annotated[dict[Name, Annotated[Storage, EMPTY_IS_DEFAULT]], EMPTY_IS_DEFAULT] = Field(
        default={}, description="The places for disks, by name. Default: one directory, named `shared`."
    )
    hosts: Annotated[dict[Name, Annotated[Host, EMPTY_IS_DEFAULT]], EMPTY_IS_DEFAULT] = Field(
        description="The hosts, by name. At least one; two for a migration."
    )
    guests: Annotated[dict[Name, Annotated[Guest, EMPTY_IS_DEFAULT]], EMPTY_IS_DEFAULT] = Field(
        default={}, description="The guests, by name. Default: none."
    )
    migration: Annotated[Migration, EMPTY_IS_DEFAULT] = Field(
        default=Migration(),
        description="How guests are moved when neither they nor the command say. Default: pre-copy.",
    )


KINDS: dict[str, tuple[str, type[BaseModel]]] = {
    "networks": ("a network", Network),
    "storage": ("a storage", Storage),
    "hosts": ("a host", Host),
    "guests": ("a guest", Guest),
}
"""The sections of a lab file: what an entry is called, and its model."""
