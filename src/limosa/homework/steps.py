"""The recipe's steps beside what was done here in their place: by the lab's own hosts, storage and image."""

from __future__ import annotations

from limosa.spec import resolved

Step = tuple[str, str, str]
"""(what the recipe types, what is run here, what it is for)"""

_LAUNCH = "lxc launch image:alpine:3.15 host1 (and host2)"
_VOLUME = "storage volume nfs, added to both at /mnt/nfs"
_SAME_PATH = "The guest's disk, at the same path on source and target."

_KVM: Step = (
    "/dev/kvm added to both as unix-char",
    "/dev/kvm as each host has it; KVM is tried with a guest's kernel before it is used",
    "Lets QEMU run the guest's instructions on the processor.",
)
_BRIDGE: Step = (
    "tunctl -t tap0, br0 over eth0 and tap0, STP off",
    "ip link add … type bridge, ip tuntap add … mode tap, ip link set … master …",
    "The guest's card is a port of the host's bridge, so it is in the same network as the hosts, wherever it runs."
    " Without STP a new port forwards at once, not after a delay of some seconds.",
)
_PACKAGES: Step = (
    "setup-alpine on the guest's console, PermitRootLogin",
    "an image that is built from the distribution's packages, root by key only",
    "A guest that starts, has an address and lets one in. No password has to be set, or allowed.",
)
_INSTALLED: Step = (
    "setup-alpine on the guest's console, PermitRootLogin",
    "a disk with a system of its own, as the lab file names it; limosa image install runs setup-alpine by itself",
    "A guest that starts, has an address and lets one in.",
)


def steps(lab: resolved.Lab, guest: resolved.Guest) -> list[Step]:
    """Those of *lab*, whose *guest* moves: a row for each kind of host and of storage that it has."""
    hosts = list(dict.fromkeys(_host(host) for host in lab.hosts.values()))
    stores = list(dict.fromkeys(_storage(store) for store in lab.storage.values()))
    return [*hosts, *stores, _KVM, _BRIDGE, _PACKAGES if guest.image_kind.built else _INSTALLED]


def boot(guest: resolved.Guest) -> Step:
    """What stands in place of the installer's ISO on QEMU's command line."""
    kernel = guest.image_kind.built or (guest.disk_image is not None and bool(guest.disk_image.kernel))
    here = "-kernel, -initrd, -append" if kernel else "-boot, bootindex=…"
    what = "kernel" if kernel else "installed disk"
    return ("-boot d -cdrom alpine-virt-….iso", here, f"No installer is needed: the {what} starts.")


def _host(host: resolved.Host) -> Step:
    if not host.traits.own_system:
        return (
            _LAUNCH,
            "unshare --net --mount --pid --uts --ipc … (in the stage “make the hosts”)",
            "A host: its own network, mounts, processes, name. A container is made of the same namespaces; no root and"
            " no daemon are needed for them.",
        )
    if host.machine:
        return (
            _LAUNCH,
            "a machine that is logged in to by SSH; what limosa makes there bears the lab's mark",
            "A host: a machine of its own, with a kernel of its own.",
        )
    launched = f"launch {host.image} NAME" if host.image else "an existing container, which is used and kept"
    return (_LAUNCH, f"{host.kind}: {launched}", "A host: a container with a system of its own, as in the recipe.")


def _storage(store: resolved.Storage) -> Step:
    match store.kind:
        case "volume":
            here = f"the volume {store.volume} of the pool {store.pool}, added to both at {store.mount_point}"
            return (_VOLUME, here, f"{_SAME_PATH} The daemon shows one directory of its machine in both containers.")
        case "nfs":
            here = f"an NFS mount at {store.mount_point} on all hosts"
            return (_VOLUME, here, f"{_SAME_PATH} That is what the course asks for.")
        case _:
            here = f"a directory at {store.path or store.mount_point} on all hosts"
            return (_VOLUME, here, f"{_SAME_PATH} (The course asks for NFS; between two machines it would be that.)")
