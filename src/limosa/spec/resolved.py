"""What is to be: checked, filled in and frozen. Only these types may act; ``codec`` makes them JSON and back.

Addresses are text (``10.77.1.11``), sizes bytes, rates bits per second for links, as the names say.
"""

from __future__ import annotations

import ipaddress
from typing import Literal

import msgspec

from limosa.architecture import X86_64
from limosa.spec import host_kinds, image_kinds

Purpose = Literal["guests", "migration"]
StorageKind = Literal["directory", "volume", "nfs"]
DiskFormat = Literal["raw", "qcow2"]
Firmware = Literal["bios", "uefi"]
Seed = Literal["none", "nocloud"]
Nic = Literal["virtio-net", "vhost-net", "e1000", "rtl8139"]
DiskBus = Literal["virtio-blk", "virtio-scsi", "sata"]
Display = Literal["none", "vga"]
Cache = Literal["writeback", "none"]
Accel = Literal["auto", "kvm", "tcg"]
Method = Literal["pre-copy", "post-copy"]
PostCopyUse = Literal["never", "last", "ok"]
Tls = Literal["auto", "on", "off"]


class Network(msgspec.Struct, frozen=True):
    """One broadcast domain that joins hosts, guests and the client."""

    name: str
    subnet: str
    """IPv4 network in CIDR form, ``10.77.1.0/24``."""
    client_address: str
    """The client's address in it; the client lives in the fabric."""
    rate_bits_per_s: int | None = None
    """Each host's link is shaped to this in both directions; None: unshaped."""
    delay_ms: float | None = None
    """One-way delay added on each host's link (needs netem in the kernel)."""
    purpose: Purpose = "guests"
    """``migration``: guests have no NIC in it; migration traffic takes it."""
    bridge: str = ""
    """A bridge of this machine that the network is joined with: how hosts of several kinds meet. For containers it is
    also the bridge that their NIC is plugged into; empty there: the daemon's default profile decides."""

    @property
    def prefix_length(self) -> int:
        """The number of network bits, 24 for ``10.77.1.0/24``."""
        return ipaddress.ip_network(self.subnet).prefixlen


class Storage(msgspec.Struct, frozen=True):
    """A place for disks that all hosts see at the same path."""

    name: str
    kind: StorageKind = "directory"
    path: str = ""
    """``directory``: one of the user's; empty: one in the lab's state directory, removed with the lab's disks.
    ``nfs``: the exported directory, as its server calls it."""
    pool: str = ""
    """``volume``: the storage pool of the container daemon."""
    volume: str = ""
    """``volume``: the custom volume's name; made, and removed with the lab, when it does not exist."""
    server: str = ""
    """``nfs``: the host of the lab that exports it, or the address of a server outside the lab."""
    mount: str = ""
    """Where every host sees it; empty: below /run/limosa."""

    @property
    def mount_point(self) -> str:
        """Where every host sees it."""
        return self.mount or f"/run/limosa/storage/{self.name}"


class Host(msgspec.Struct, frozen=True):
    """A place where processes run."""

    name: str
    kind: str = host_kinds.NAMESPACES.name
    """A name of ``host_kinds.KINDS``."""
    qemu: str = X86_64.qemu
    """The QEMU binary on this host: a name on PATH or an absolute path."""
    qemu_firmware: tuple[str, ...] = ()
    """Extra firmware folders for ``-L``, for a QEMU unpacked beside the distribution's."""
    memory_bytes: int | None = None
    """The guest memory this host may hold in all; None: what the machine has available."""
    addresses: dict[str, str] = msgspec.field(default_factory=dict)
    """Its address in each network, by the network's name. ``own``: what its system has already."""
    links: dict[str, str] = msgspec.field(default_factory=dict)
    """Not for namespaces: the interface that carries each network there, by the network's name. A bridge is used as it
    is; over any other interface a bridge is made, which takes its addresses, and goes with the lab."""
    machine: str = ""
    """``ssh``: [USER@]HOST[:PORT], or a name of the user's ssh config."""
    image: str = ""
    """``incus``, ``lxd``: what the container is launched from, ``images:alpine/3.23`` or the alias of a local image."""
    adopt: str = ""
    """``incus``, ``lxd``: an existing container, which is used and kept."""
    remote: str = ""
    """``incus``, ``lxd``: the https address of a daemon elsewhere; empty: this machine's, by its socket."""
    project: str = "default"
    """``incus``, ``lxd``: the daemon's project."""
    tls: str = ""
    """A folder on this host with the user's own keys for the migration stream; empty: limosa makes them."""

    @property
    def made(self) -> bool:
        """Whether limosa makes it: then it is the lab's alone, and all of its network may be changed."""
        adopting = self.traits.adopting
        return self.traits.made and not (adopting and getattr(self, adopting))

    @property
    def here(self) -> bool:
        """Whether it is on this machine, so that what it sends to another such host does not leave it."""
        return self.traits.here and not self.remote

    @property
    def traits(self) -> host_kinds.HostKind:
        """What is true of every host of its kind."""
        return host_kinds.KINDS[self.kind]


class Disk(msgspec.Struct, frozen=True):
    """A guest's root disk on a shared storage."""

    storage: str
    file: str
    """The file's name in the storage."""
    format: DiskFormat = "raw"
    source: str = ""
    """A file that the disk is copied from when it does not exist yet; empty: the image's own disk."""
    bus: DiskBus = "virtio-blk"
    cache: Cache = "writeback"
    """Whether the host's page cache stands between the guest and the file."""
    overlay: bool | None = None
    """Whether the guest writes to a qcow2 file of its own over a base that guests share; None: when the image that
    boots by itself is qcow2. ``format`` is then that of the file only where this is False."""

    @property
    def device(self) -> str:
        """What the guest's kernel calls it."""
        return "/dev/vda" if self.bus == "virtio-blk" else "/dev/sda"


class DiskImage(msgspec.Struct, frozen=True):
    """A disk with a system of its own, as a lab file describes it in place of a name."""

    path: str = ""
    """A file of the user's; it is copied or shared, never changed."""
    url: str = ""
    """Or where it is fetched from, once."""
    sha256: str = ""
    """What the file's content has to be; empty: anything."""
    format: DiskFormat = "qcow2"
    firmware: Firmware = "bios"
    seed: Seed = "nocloud"
    """How the system learns its address and its keys: cloud-init's NoCloud disk, or not at all (it asks by DHCP)."""
    user: str = "root"
    """Who may log in by SSH; empty: it runs no SSH server."""
    key: str = ""
    """The private key that lets *user* in; empty: the lab's own, which the seed brings."""
    kernel: str = ""
    """A kernel that QEMU starts directly, instead of what the disk would boot."""
    initrd: str = ""
    append: str = ""


def encrypts(wish: Tls, *hosts: Host) -> bool:
    """Whether a stream between *hosts* is encrypted; ``auto``: where it leaves this machine."""
    return wish == "on" or (wish == "auto" and not all(host.here for host in hosts))


class Wishes(msgspec.Struct, frozen=True):
    """How a guest is moved, when the command does not say."""

    method: Method = "pre-copy"
    tls: Tls = "auto"
    """Whether the stream is encrypted, as ``encrypts`` has it."""
    options: dict[str, bool | int | str] = {}
    """Names and values of ``migration_options``, in QEMU's units."""


class Guest(msgspec.Struct, frozen=True):
    """A virtual machine: one QEMU process on one host at a time."""

    name: str
    host: str
    """Where ``up`` starts it."""
    image: str = image_kinds.MICRO.name
    """A kind that limosa builds (``image_kinds``), or a name of the image library; ``disk`` where ``disk_image`` says
    what it is."""
    memory_bytes: int = 512 * 1024 * 1024
    cpus: int = 1
    accel: Accel = "auto"
    machine: str = ""
    """A versioned machine type; empty: the newest that every host's QEMU knows."""
    cpu: str = ""
    """A CPU model; empty: the best that every host can give under the accelerator."""
    network: str = ""
    nic: Nic = "virtio-net"
    mac: str = ""
    address: str = ""
    """Its IPv4 address, the same wherever it runs."""
    disk: Disk | None = None
    display: Display = "none"
    """``vga``: a VGA card, whose memory moves with the guest."""
    disk_image: DiskImage | None = None
    migration: Wishes = Wishes()

    @property
    def image_kind(self) -> image_kinds.ImageKind:
        """What its image can and needs."""
        return image_kinds.OWN_DISK if self.disk_image is not None else image_kinds.of(self.image)


class Lab(msgspec.Struct, frozen=True):
    """What one lab file describes."""

    name: str
    networks: dict[str, Network]
    storage: dict[str, Storage]
    hosts: dict[str, Host]
    guests: dict[str, Guest]
    file: str = ""
    """The lab file this came from: its one real path."""
    identity: str = ""
    """The id of whose lab this is, which the file cannot know. Empty until it is brought up, and in a lab that a
    version brought up which knew none: that keeps the names and MACs which it has."""

    @property
    def mark(self) -> str:
        """What its things bear where other labs and other people have theirs; empty without an identity."""
        return f"{self.name}@{self.identity}" if self.identity else ""

    @property
    def has_fabric(self) -> bool:
        """Whether the client lives in a fabric, with the hosts that have no system of their own."""
        return not self.hosts or not all(host.traits.own_system for host in self.hosts.values())

    @property
    def migration_network(self) -> Network:
        """The network that migration traffic takes: the one with that purpose, else the first."""
        marked = [n for n in self.networks.values() if n.purpose == "migration"]
        return (marked or list(self.networks.values()))[0]
