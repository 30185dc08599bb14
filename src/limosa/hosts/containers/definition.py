"""What a container is made with: pure functions from the lab to the daemon's own terms.

Whatever limosa makes or changes bears ``user.limosa.*`` settings; the devices that it adds are named ``limosa-...``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from limosa.errors import SpecError, StateError
from limosa.hosts.containers.daemon import Image, Instance
from limosa.hosts.containers.endpoint import Flavour
from limosa.spec import resolved
from limosa.spec.problems import nearest

LAB, HOST, MARK, ADOPTED = "user.limosa.lab", "user.limosa.host", "user.limosa.mark", "user.limosa.adopted"
PREFIX = "limosa-"
PASSED = ("/dev/kvm", "/dev/net/tun", "/dev/vhost-net")
"""Devices that containers get where the daemon's machine has them."""

Devices = dict[str, dict[str, str]]

_IMAGES = {
    "incus": {"images": "https://images.linuxcontainers.org"},
    # The server of linuxcontainers.org has served Incus alone since 2024; these two are Canonical's.
    "lxd": {"images": "https://images.lxd.canonical.com", "ubuntu": "https://cloud-images.ubuntu.com/releases"},
}
_FINGERPRINT_LETTERS = 12


class Wanted(msgspec.Struct, frozen=True):
    """What a host's container has to have."""

    lab: str
    host: str
    mark: str
    devices: Devices
    """Devices and storage by limosa's names for them."""
    interfaces: Devices
    """Network interfaces by their own names."""

    def settings(self, *, adopted: bool = False) -> dict[str, str]:
        """The marks."""
        return {LAB: self.lab, HOST: self.host, MARK: self.mark, **({ADOPTED: "true"} if adopted else {})}


def container_name(lab: str, host: resolved.Host) -> str:
    """What the host's container is called: the user's own, or one named after lab and host."""
    return host.adopt or f"{lab}-{host.name}"


def wanted(lab: resolved.Lab, host: resolved.Host, mark: str, directories: Mapping[str, Path]) -> Wanted:
    """What the container of *host* has to have. *directories*: where storage of kind directory is on this machine."""
    devices: Devices = {
        PREFIX + posixpath.basename(path): {"type": "unix-char", "source": path, "path": path, "required": "false"}
        for path in PASSED
    }
    for name, storage in lab.storage.items():
        if (device := storage_device(storage, directories)) is not None:
            devices[PREFIX + name] = device
    interfaces = {
        interface: {"type": "nic", "nictype": "bridged", "parent": lab.networks[network].bridge, "name": interface}
        for network, interface in host.links.items()
        if lab.networks[network].bridge
    }
    return Wanted(lab.name, host.name, mark, devices, interfaces)


def storage_device(storage: resolved.Storage, directories: Mapping[str, Path]) -> dict[str, str] | None:
    """The disk device that shows *storage* in a container; None for a kind that the container mounts itself."""
    if storage.kind == "volume":
        return {"type": "disk", "pool": storage.pool, "source": storage.volume, "path": storage.mount_point}
    if storage.kind == "directory":
        # Shifted: what root in the container writes belongs to root of this machine, as with every other kind of host.
        source = str(directories[storage.name])
        return {"type": "disk", "source": source, "path": storage.mount_point, "shift": "true"}
    return None


def request(name: str, source: Mapping[str, str], want: Wanted) -> dict[str, object]:
    """The body that makes an own container. All marks are there from its first moment."""
    config = {"security.privileged": "false", **want.settings()}
    devices = {**want.devices, **want.interfaces}
    return {"name": name, "type": "container", "source": dict(source), "config": config, "devices": devices}


def image_source(flavour: Flavour, image: str, local: Sequence[Image]) -> dict[str, str]:
    """Where the daemon takes *image* from: ``images:alpine/3.23`` from a server, else from its own store.

    Raises SpecError for a server that is not known, and for a local image that is not there.
    """
    server, colon, alias = image.partition(":")
    known = _IMAGES[flavour.kind]
    if colon and server != "local":
        if server not in known:
            names = ", ".join(f"{name}:" for name in sorted([*known, "local"]))
            raise SpecError(f"{flavour.title} image {image!r}: limosa knows no image server {server!r}", hint=names)
        address = {"server": known[server], "protocol": "simplestreams"}
        return {"type": "image", "mode": "pull", "alias": alias, **address}
    name = alias if colon else image
    aliases = [entry["name"] for one in local for entry in one.aliases]
    if name in aliases:
        return {"type": "image", "alias": name}
    for one in local:
        if len(name) >= _FINGERPRINT_LETTERS and one.fingerprint.startswith(name):
            return {"type": "image", "fingerprint": one.fingerprint}
    has = f"it has {', '.join(sorted(aliases))}; " if aliases else ""
    raise SpecError(
        f"{flavour.title} has no local image {name!r}{nearest(name, aliases)}",
        hint=f"{has}images:{name} would be fetched from {known['images']}",
    )


def missing(instance: Instance, want: Wanted) -> Devices:
    """Those of the wanted devices that a container lacks, judged by the paths that they have in it.

    Raises StateError where something else is at the path of a storage.
    """
    there = {
        posixpath.normpath(device.get("path") or device.get("source", "")): device
        for device in instance.expanded_devices.values()
        if device.get("type") in ("unix-char", "disk")
    }
    lacking = {}
    for name, device in want.devices.items():
        present = there.get(device["path"])
        if present is None:
            lacking[name] = device
        elif device["type"] == "disk" and any(
            present.get(key) != device.get(key) for key in ("type", "pool", "source")
        ):
            raise StateError(
                f"container {instance.name} has something else at {device['path']}: {_words(present)}",
                hint=f"give the storage another mount in the lab file, or make that device {_words(device)}",
            )
    return lacking


def _words(device: Mapping[str, str]) -> str:
    return " ".join(f"{key}={device[key]}" for key in ("type", "pool", "source") if device.get(key))


def interfaces(instance: Instance) -> list[str]:
    """The names of a container's network interfaces."""
    devices = instance.expanded_devices.items()
    return sorted(device.get("name", key) for key, device in devices if device.get("type") == "nic")


def check_interfaces(instance: Instance, host: resolved.Host) -> None:
    """Raise SpecError where a network of the lab has no interface in the container that was made for the host.

    An interface with another name (``br0``) may be made by the image's own system, and is not judged.
    """
    have = interfaces(instance)
    for network, interface in host.links.items():
        if interface.startswith("eth") and interface not in have:
            raise SpecError(
                f"host {host.name}: network {network} is to be carried by {interface}, "
                f"and the container has only {', '.join(have) or 'no interface'}",
                hint=f"give network {network} a bridge, or the daemon's default profile an interface {interface}",
            )


def stripped(instance: Instance) -> tuple[Devices, dict[str, str]]:
    """Devices and settings of an adopted container without anything of limosa's."""
    devices = {name: device for name, device in instance.devices.items() if not name.startswith(PREFIX)}
    config = {key: value for key, value in instance.config.items() if not key.startswith("user.limosa.")}
    return devices, config


def made_for_storage(instance: Instance) -> list[str]:
    """The folders that the daemon made to mount limosa's storage on, where they are limosa's own to remove."""
    added = [device for name, device in instance.devices.items() if name.startswith(PREFIX)]
    return [device["path"] for device in added if device.get("path", "").startswith("/run/limosa/")]


def bears(config: Mapping[str, str], mark: str) -> bool:
    """Whether something is this lab's."""
    return config.get(MARK) == mark


def owner(config: Mapping[str, str]) -> str:
    """Whose it is, for an error."""
    return f"lab {config[LAB]}" if config.get(LAB) else "not limosa's"


def one_daemon(hosts: Iterable[resolved.Host]) -> bool:
    """Whether all of them are containers of one daemon, in one project."""
    return len({(host.kind, host.remote, host.project) for host in hosts}) == 1
