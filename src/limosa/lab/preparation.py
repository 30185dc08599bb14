"""What a guest needs before its QEMU can start: image, keys, disk, accelerator, machine type, CPU model.

What is decided here is recorded, and a migration gives the target exactly the same.
"""

from __future__ import annotations

from pathlib import Path

from limosa import accel as acceleration
from limosa import tasks
from limosa.errors import LimosaError
from limosa.events import Events
from limosa.guest import provision
from limosa.guest.provision import Order, Placed, Provision
from limosa.hosts import counter
from limosa.hosts.host import Host
from limosa.lab import memory_size
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.qemu_launch import offers
from limosa.lab.record import GuestRecord, OwnDisk
from limosa.qemu import features
from limosa.spec import resolved
from limosa.storage.shelf import HostShelf, LocalShelf, Shelf


async def have(lab: resolved.Lab, events: Events) -> None:
    """Have the images of all guests, fetched where they have to be: before anything is made for them.

    An image that several need is tried once. Raises the first error, with the further ones in ``others``.
    """
    failures = dict[object, LimosaError]()
    for guest in lab.guests.values():
        needed = guest.disk_image or guest.image
        try:
            if needed not in failures:
                await provision.of(guest.image_kind).have(guest, events)
        except LimosaError as error:
            error.about, failures[needed] = f"guest {guest.name}", error
    if failures:
        first, *others = failures.values()
        first.others = tuple(others)
        raise first


async def prepare(lab_hosts: LabHosts, guest: resolved.Guest) -> GuestRecord:
    """Decide and place everything. Raises MachineError, StateError or SpecError."""
    kind, order = provision.of(guest.image_kind), _order(lab_hosts, guest)
    placed = await kind.place(order)
    if isinstance(order.shelf, HostShelf) and placed.renewed:
        # A storage elsewhere may be the user's, and outlives the lab.
        lab_hosts.directory.save_placed(guest.name, [order.seen(name) for name in placed.renewed])
    chosen = await _choose_accel(lab_hosts, kind, order, placed)
    known = await offers(lab_hosts, chosen.kind)
    return GuestRecord(
        host=guest.host,
        accel=chosen.kind,
        accel_reason=chosen.reason,
        machine=features.common_machine(known, guest.machine),
        cpu=await _cpu(lab_hosts, guest, chosen.kind),
        ram_bytes=await memory_size.decide(lab_hosts, guest, chosen.kind, known),
        kernel=order.seen(placed.kernel),
        initrd=order.seen(placed.initrd),
        append=await kind.kernel_arguments(order, placed, chosen.kind),
        disk=order.seen(placed.disk),
        image=placed.provenance,
        own_disk=_own_disk(order, placed),
    )


def _order(lab_hosts: LabHosts, guest: resolved.Guest) -> Order:
    return Order(
        lab_hosts.lab,
        guest,
        shelf_of(lab_hosts, guest),
        mount_point=storage_of(lab_hosts.lab, guest).mount_point,
        keys=lab_hosts.directory.keys,
        client=lab_hosts.the_client,
        counter_rates=lambda: _counter_rates(lab_hosts),
        events=lab_hosts.events,
    )


def _own_disk(order: Order, placed: Placed) -> OwnDisk | None:
    """What is recorded of a disk with a system of its own."""
    if (own := placed.own) is None:
        return None
    return OwnDisk(
        format=own.format,
        base=order.seen(own.base),
        base_format=own.base_format,
        seed=order.seen(own.seed),
        firmware_code=order.seen(own.firmware_code),
        firmware_vars=order.seen(own.firmware_vars),
        user=own.user,
        own_keys=own.own_keys,
    )


def shelf_of(lab_hosts: LabHosts, guest: resolved.Guest) -> Shelf:
    """Where the guest's files go: straight into the directory where all hosts share this machine's kernel, else
    through the host that it starts on, whose user has to own them."""
    storage = storage_of(lab_hosts.lab, guest)
    if not lab_hosts.elsewhere and storage.kind == "directory":
        return LocalShelf(lab_hosts.directory.storage(storage))
    return HostShelf(lab_hosts.host(guest.host), storage.mount_point)


async def _counter_rates(lab_hosts: LabHosts) -> list[int]:
    """The rates of the time stamp counters of the hosts' machines in kHz; those in namespaces share one machine."""
    inside = [name for name in lab_hosts.fabric.names if name in lab_hosts.on]
    asked = [host for name, host in lab_hosts.on.items() if name not in inside[1:]]
    return await tasks.together(map(_tsc_khz, asked))


async def _tsc_khz(host: Host) -> int:
    """The rate of its counter, measured now; 0 where it cannot be told."""
    done = await host.run([host.python, "-I", "-S", "-"], stdin=Path(counter.__file__).read_bytes())
    return int(done.text)


async def _choose_accel(lab_hosts: LabHosts, kind: Provision, order: Order, placed: Placed) -> acceleration.Accel:
    """The accelerator, proved with what the guest's kind names on the CPU model that KVM would give the guest."""
    guest = order.guest
    host, spec = lab_hosts.host(guest.host), lab_hosts.lab.hosts[guest.host]
    if guest.accel == "tcg":
        return acceleration.Accel("tcg", "the lab file asks for it")
    if refusal := await acceleration.device_refusal(host):
        return acceleration.unproved(host.name, guest.accel, refusal)
    cpu = await _cpu(lab_hosts, guest, "kvm")
    trial = await kind.trial(order, placed)

    async def prove() -> acceleration.Proof:
        with lab_hosts.events.stage("prove KVM"):
            return await acceleration.prove_kvm(
                host,
                qemu=spec.qemu,
                subject=trial.subject,
                cpu=cpu,
                runtime_directory=host.runtime_directory,
                firmware=spec.qemu_firmware,
            )

    identity = (await lab_hosts.named(guest.host).offer()).identity
    key = await acceleration.proof_key(host, trial.kernel, identity, cpu=cpu)
    return await acceleration.choose(host, guest.accel, prove, key=key)


async def _cpu(lab_hosts: LabHosts, guest: resolved.Guest, accel: str) -> str:
    """The CPU model that every host can give under *accel*."""
    wanted = guest.cpu or guest.image_kind.cpu
    known, hosts = await offers(lab_hosts, accel), lab_hosts.lab.hosts.values()
    # A host that is off now may be another machine, and the guest may move there later.
    whole = len(known) == len(hosts) or not any(host.traits.own_system for host in hosts)
    return features.common_cpu(known, accel, wanted, same_machine=whole)


def storage_of(lab: resolved.Lab, guest: resolved.Guest) -> resolved.Storage:
    """The storage that holds a guest's files: its disk's, else the lab's first."""
    if guest.disk is not None:
        return lab.storage[guest.disk.storage]
    return next(iter(lab.storage.values()))
