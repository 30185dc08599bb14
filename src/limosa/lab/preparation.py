"""What a guest needs before its QEMU can start: image, keys, disk, accelerator, machine type, CPU model.

What is decided here is recorded, and a migration gives the target exactly the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limosa import accel as acceleration
from limosa import paths, tasks
from limosa.architecture import X86_64
from limosa.events import Events
from limosa.guest import bare, images
from limosa.guest.agent.build import build as build_agent
from limosa.guest.agent.build import source_digest
from limosa.guest.library import Entry
from limosa.guest.micro import seed
from limosa.lab import leases, own_disk
from limosa.lab.hosts import LabHosts
from limosa.lab.qemu_launch import offer, offers
from limosa.lab.record import GuestRecord, OwnDisk, write
from limosa.qemu import features
from limosa.qemu.ram import ram_bytes
from limosa.spec import resolved
from limosa.storage.disk_file import Claim
from limosa.storage.shelf import HostShelf, LocalShelf, Shelf

SAME_RATE = 1e-4
"""Hosts whose counters differ by less than this share are of one rate: it is measured to some 10 ppm."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Files of a guest on its storage, by their names there."""

    kernel: str
    kernel_source: Path
    """Where the kernel came from on this machine."""
    initrd: str
    disk: str


async def prepare(lab_hosts: LabHosts, guest: resolved.Guest) -> GuestRecord:
    """Decide and place everything. Raises MachineError, StateError or SpecError."""
    shelf = shelf_of(lab_hosts, guest)
    own: OwnDisk | None = None
    if guest.image_kind.boots_disk:
        entry = await own_disk.find(guest, lab_hosts.events)
        placed, own = await _place_own(shelf, guest, lab_hosts, entry)
        provenance, append = entry.provenance, entry.append
    elif guest.image == "bare":
        placed, provenance = await _place_bare(shelf, guest, lab_hosts)
        append = bare.kernel_arguments("write", memory_mib=guest.memory_bytes // (2 << 20))
    else:
        image = await images.ensure(guest.image, lab_hosts.events, agent=await agent_program(lab_hosts.events))
        placed, provenance, append = (
            await _place(shelf, guest, lab_hosts, image),
            image.provenance,
            _kernel_arguments(image, guest),
        )
    if isinstance(shelf, HostShelf) and not guest.image_kind.boots_disk:
        # A storage elsewhere may be the user's, and outlives the lab.
        remade = [_seen(lab_hosts.lab, guest, name) for name in (placed.kernel, placed.initrd) if name]
        lab_hosts.directory.save_placed(guest.name, remade)
    chosen = await _choose_accel(lab_hosts, guest, placed)
    if chosen.kind == "tcg" and not guest.image_kind.boots_disk and guest.image != "bare":
        append += await _counter(lab_hosts)
    known = await offers(lab_hosts, chosen.kind)
    return GuestRecord(
        host=guest.host,
        accel=chosen.kind,
        accel_reason=chosen.reason,
        machine=features.common_machine(known, guest.machine),
        cpu=await _cpu(lab_hosts, guest, chosen.kind),
        ram_bytes=ram_bytes(guest.memory_bytes, chosen.kind),
        kernel=_seen(lab_hosts.lab, guest, placed.kernel),
        initrd=_seen(lab_hosts.lab, guest, placed.initrd),
        append=append,
        disk=_seen(lab_hosts.lab, guest, placed.disk),
        image=provenance,
        own_disk=own,
    )


def shelf_of(lab_hosts: LabHosts, guest: resolved.Guest) -> Shelf:
    """Where the guest's files go: straight into the directory where all hosts share this machine's kernel, else
    through the host that it starts on, whose user has to own them."""
    storage = storage_of(lab_hosts.lab, guest)
    if not lab_hosts.elsewhere and storage.kind == "directory":
        return LocalShelf(lab_hosts.directory.storage(storage))
    return HostShelf(lab_hosts.host(guest.host), storage.mount_point)


def _kernel_arguments(image: images.Image, guest: resolved.Guest) -> str:
    """The image's own, with the name that the root disk has on this guest's bus."""
    return image.kernel_arguments.replace(
        "root=/dev/vda", f"root={guest.disk.device}" if guest.disk else "root=/dev/vda"
    )


async def _counter(lab_hosts: LabHosts) -> str:
    """What an emulated guest's kernel is told of its time stamp counter, which is its host's.

    On a busy machine it would measure the rate wrongly. Where the hosts' rates differ, or cannot be told, another
    clock is right everywhere, though slower to read.
    """
    inside = [name for name in lab_hosts.fabric.names if name in lab_hosts.on]
    asked = [host for name, host in lab_hosts.on.items() if name not in inside[1:]]  # these share one machine
    rates = await tasks.together(host.tsc_khz() for host in asked)
    if min(rates) and max(rates) - min(rates) <= SAME_RATE * min(rates):
        return f" {X86_64.clock_rate}={rates[0]}"
    return f" {X86_64.clock_unstable}"


def agent_path() -> Path:
    """Where the guest agent of the present sources is, compiled or not."""
    return paths.cache() / "agent" / f"limosa-agent-{source_digest()[:16]}"


async def agent_program(events: Events) -> Path:
    """The guest agent, compiled once for each state of its sources."""
    path = agent_path()
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise paths.cannot_write(error, path.parent) from error
        with events.stage("compile the guest agent"):
            await build_agent(path, events)
    return path


async def _choose_accel(lab_hosts: LabHosts, guest: resolved.Guest, placed: Placed) -> acceleration.Accel:
    """The accelerator, proved with the guest's own kind of kernel on the CPU model that KVM would give it."""
    host, spec = lab_hosts.host(guest.host), lab_hosts.lab.hosts[guest.host]
    if guest.accel == "tcg":
        return acceleration.Accel("tcg", "the lab file asks for it")
    if refusal := await acceleration.device_refusal(host):
        return acceleration.unproved(host.name, guest.accel, refusal)
    cpu = await _cpu(lab_hosts, guest, "kvm")
    if guest.image_kind.boots_disk:
        placed = await _provable(lab_hosts, guest)
    kernel = _seen(lab_hosts.lab, guest, placed.kernel)
    if not placed.initrd:
        subject = acceleration.bare(kernel, X86_64.small_firmware)
    else:
        subject = acceleration.linux(kernel, _seen(lab_hosts.lab, guest, placed.initrd))

    async def prove() -> acceleration.Proof:
        with lab_hosts.events.stage("prove KVM"):
            return await acceleration.prove_kvm(
                host,
                qemu=spec.qemu,
                subject=subject,
                cpu=cpu,
                runtime_directory=host.runtime_directory,
                firmware=spec.qemu_firmware,
            )

    identity = (await offer(lab_hosts, guest.host)).identity
    key = await acceleration.proof_key(host, placed.kernel_source, identity, cpu=cpu)
    return await acceleration.choose(host, guest.accel, prove, key=key)


async def _cpu(lab_hosts: LabHosts, guest: resolved.Guest, accel: str) -> str:
    """The CPU model that every host can give under *accel*."""
    wanted = guest.cpu or guest.image_kind.cpu
    known, hosts = await offers(lab_hosts, accel), lab_hosts.lab.hosts.values()
    # A host that is off now may be another machine, and the guest may move there later.
    whole = len(known) == len(hosts) or all(host.kind == "namespaces" for host in hosts)
    return features.common_cpu(known, accel, wanted, same_machine=whole)


def storage_of(lab: resolved.Lab, guest: resolved.Guest) -> resolved.Storage:
    """The storage that holds a guest's files: its disk's, else the lab's first."""
    if guest.disk is not None:
        return lab.storage[guest.disk.storage]
    return next(iter(lab.storage.values()))


def _seen(lab: resolved.Lab, guest: resolved.Guest, name: str) -> str:
    """The path by which every host sees the file *name* of the guest's storage; none for none."""
    return f"{storage_of(lab, guest).mount_point}/{name}" if name else ""


async def _place_bare(shelf: Shelf, guest: resolved.Guest, lab_hosts: LabHosts) -> tuple[Placed, dict[str, object]]:
    built = await bare.build(paths.cache() / "images", lab_hosts.events)
    kernel = f"{guest.name}.kernel"
    await shelf.link(built.kernel, kernel)
    provenance = {"name": "bare", "digest": built.digest, "sha256": built.kernel_sha256, "compiler": built.compiler}
    return Placed(kernel, built.kernel, "", ""), dict(provenance)


async def _place(shelf: Shelf, guest: resolved.Guest, lab_hosts: LabHosts, image: images.Image) -> Placed:
    """Put kernel, initrd (with this guest's own seed) and disk on the storage; a disk that exists is kept."""
    kernel, initrd = f"{guest.name}.kernel", f"{guest.name}.initrd"
    await shelf.link(image.kernel, kernel)
    keys = await _keys(lab_hosts)
    belongings = seed.seed(
        hostname=guest.name,
        address_cidr=f"{guest.address}/{lab_hosts.lab.networks[guest.network].prefix_length}",
        gateway=None,
        mac=guest.mac,
        authorized_keys=keys.authorized_keys,
        host_key=keys.host_key.read_text(),
    )
    await shelf.write(initrd, image.initrd.read_bytes() + belongings)
    disk = await _disk(shelf, guest, image) if guest.disk is not None else ""
    return Placed(kernel, image.kernel, initrd, disk)


async def _keys(lab_hosts: LabHosts) -> seed.LabKeys:
    """The lab's keys, and the file by which its guests are known."""
    keys = await seed.make_keys(lab_hosts.directory.keys, lab_hosts.the_client().run)
    addresses = [g.address for g in lab_hosts.lab.guests.values() if g.address]
    write(lab_hosts.directory.keys / "known_hosts", keys.known_hosts(*addresses).encode())
    return keys


async def _place_own(shelf: Shelf, guest: resolved.Guest, lab_hosts: LabHosts, entry: Entry) -> tuple[Placed, OwnDisk]:
    """A disk that holds a system of its own, with what comes with it; see ``own_disk``."""
    keys = await _keys(lab_hosts)
    files = await own_disk.place(shelf, guest, entry)
    user, seeded = entry.access.user, entry.seed == "nocloud"
    iso = await own_disk.place_seed(shelf, lab_hosts.lab, guest, keys, user) if seeded else ""
    own_disk.place_login(lab_hosts.directory.keys, guest, entry)
    if guest.network:
        await leases.serve(lab_hosts.the_client(), lab_hosts.lab, guest.network)
    own = OwnDisk(
        format=files.format,
        base=_seen(lab_hosts.lab, guest, files.base),
        base_format=files.base_format,
        seed=_seen(lab_hosts.lab, guest, iso),
        firmware_code=_seen(lab_hosts.lab, guest, files.firmware_code),
        firmware_vars=_seen(lab_hosts.lab, guest, files.firmware_vars),
        user=user,
        own_keys=not seeded,
    )
    return Placed(files.kernel, Path(), files.initrd, files.disk), own


async def _provable(lab_hosts: LabHosts, guest: resolved.Guest) -> Placed:
    """The small image's kernel in the place of a system of which nobody can tell how far it has come."""
    image = await images.ensure("micro", lab_hosts.events, agent=await agent_program(lab_hosts.events))
    shelf = shelf_of(lab_hosts, guest)
    placed = Placed("proof.kernel", image.kernel, "proof.initrd", "")
    await shelf.link(image.kernel, placed.kernel)
    await shelf.link(image.initrd, placed.initrd)
    return placed


async def _disk(shelf: Shelf, guest: resolved.Guest, image: images.Image) -> str:
    assert guest.disk is not None
    name, form = guest.disk.file, guest.disk.format
    if await shelf.has(name):
        await own_disk.check_kept(shelf, name, form)
        return name
    said = own_disk.source_claim(guest) if guest.disk.source else Claim(path=image.disk, format="raw")
    await own_disk.place_whole(shelf, said, name, form)
    return name
