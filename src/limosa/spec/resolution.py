"""From a document to a resolved lab: shapes checked, names looked up, addresses and defaults filled in.

Rule: faults are collected and raised together, so that three slips do not take three rounds.
Errors are about the lab file; what the machine lacks is for ``limosa doctor`` and ``up`` to say.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec
from pydantic import ValidationError

from limosa.spec import faults, host_kinds, image_kinds, placement, resolved, wishes, written
from limosa.spec.addresses import FIRST_GUEST_OFFSET, FIRST_HOST_OFFSET, Pool, free_subnet, identified
from limosa.spec.document import Document
from limosa.spec.problems import MOST_SHOWN, Location, Problem, listed, nearest, raise_all
from limosa.units import format_bytes, parse_bits_per_s, parse_bytes, parse_seconds

RESERVED_NETWORK_NAMES = frozenset({"lo", "all", "default"})
"""A network's bridge bears its name: ``lo`` exists, the others mean "every interface" under /proc/sys/net."""


MOST = {"networks": 64, "storage": 64, "hosts": 512, "guests": 2048}
"""Entries of a section. More than any machine holds; without an end a file could keep us busy for minutes."""


def resolve(document: Document, path: Path | None) -> resolved.Lab:
    """The lab that *document* describes. Relative paths begin in the folder of *path*. Raises SpecError."""
    _check_counts(document)
    try:
        lab_file = written.LabFile.model_validate(document.values)
    except ValidationError as error:
        raise_all(faults.explain(error, document), document.file)
    resolution = _Resolution(document, lab_file, path)
    lab = resolution.lab()
    if resolution.problems:
        raise_all(resolution.problems, document.file)
    return lab


def _check_counts(document: Document) -> None:
    """Raise SpecError for a section that is too long, before anything is made of it."""
    for section, most in MOST.items():
        entries = document.values.get(section)
        if isinstance(entries, dict | list) and len(entries) > most:
            message = f"{len(entries)} entries, and a lab has at most {most}"
            problem = Problem(document.line((section,)), (section,), message, "divide the lab into several")
            raise_all([problem], document.file)


class _Resolution(msgspec.Struct):
    """One lab on its way. Methods go on after a fault with whatever lets the next fault be found."""

    document: Document
    file: written.LabFile
    path: Path | None
    problems: list[Problem] = []
    pools: dict[str, Pool] = {}

    def lab(self) -> resolved.Lab:
        name = self._lab_name()
        for location, message, hint in (*placement.faults(self.file), *wishes.faults(self.file)):
            self._problem(location, message, hint)
        networks = self._networks()
        storage = self._storage()
        self._reserve_addresses(networks)
        hosts = {key: self._host(key, host) for key, host in self.file.hosts.items()}
        guests = self._guests(networks, storage)
        self._check_hosts(hosts, guests)
        lab = resolved.Lab(
            name=name,
            networks=networks,
            storage=storage,
            hosts=hosts,
            guests=guests,
            file=str(self.path.absolute()) if self.path else "",
        )
        return identified(lab, "")

    def _problem(self, location: Location, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.document.line(location), location, message, hint))

    def _unknown(self, location: Location, kind: str, name: str, valid: Iterable[str]) -> None:
        if len(self.problems) >= MOST_SHOWN:  # it will hardly be told: what is near to it takes long to find
            self._problem(location, f"there is no {kind} {name!r}")
            return
        names = list(valid)
        hint = f"this lab has {listed(names)}" if names else f"this lab has no {kind}"
        self._problem(location, f"there is no {kind} {name!r}{nearest(name, names)}", hint)

    def _lab_name(self) -> str:
        if self.file.name:
            return self.file.name
        stem = self.path.stem if self.path else ""
        try:
            return written.check_lab_name(stem)
        except ValueError:
            why = f", and the file's name {self.path.name!r} cannot be the lab's" if self.path else ""
            self._problem((), f"the key 'name' is missing{why}", "begin with, for instance, `name: two-hosts`")
            return ""

    # -- networks and storage

    def _networks(self) -> dict[str, resolved.Network]:
        entries = self.file.networks or {"lan": written.Network()}
        for name in entries.keys() & RESERVED_NETWORK_NAMES:
            self._problem(("networks", name), f"the kernel keeps the name {name!r} for itself", "choose another name")
        subnets = self._subnets(entries)
        marked = [name for name, network in entries.items() if network.purpose == "migration"]
        for name in marked[1:]:
            first = self.document.line(("networks", marked[0]))
            message = f"the network {marked[0]!r} in line {first} is for migration already"
            self._problem(("networks", name, "purpose"), message, "remove this key from one of them")
        return {name: self._network(name, network, subnets[name]) for name, network in entries.items()}

    def _network(self, name: str, network: written.Network, subnet: IPv4Network) -> resolved.Network:
        self.pools[name] = Pool(name, subnet, client=self._client(name, network, subnet))
        delay_ms = parse_seconds(network.delay) * 1000 if network.delay else 0.0
        return resolved.Network(
            name=name,
            subnet=str(subnet),
            client_address=str(self.pools[name].client_address),
            rate_bits_per_s=parse_bits_per_s(network.rate) if network.rate else None,
            delay_ms=delay_ms or None,
            purpose=network.purpose,
            bridge=network.bridge,
        )

    def _client(self, name: str, network: written.Network, subnet: IPv4Network) -> str:
        """The client's address that the file gives, if it can be one."""
        if network.client and (fault := Pool(name, subnet).misfit(network.client)):
            self._problem(("networks", name, "client"), fault, "")
            return ""
        return network.client

    def _subnets(self, entries: dict[str, written.Network]) -> dict[str, IPv4Network]:
        subnets: dict[str, IPv4Network] = {}
        for name, network in entries.items():
            if not network.subnet:
                continue
            subnet = written.check_subnet(network.subnet)
            for other, other_subnet in subnets.items():
                if subnet.overlaps(other_subnet):
                    line = self.document.line(("networks", other, "subnet"))
                    message = f"{subnet} overlaps {other_subnet} of the network {other!r} in line {line}"
                    self._problem(("networks", name, "subnet"), message, "networks may not overlap")
                    break
            subnets[name] = subnet
        for name in entries:
            if name not in subnets:
                free = free_subnet(list(subnets.values()))
                if free is None:
                    message = "no 10.77.N.0/24 is left for this network"
                    self._problem(("networks", name), message, "write its subnet")
                subnets[name] = free or IPv4Network("10.77.0.0/24")
        return subnets

    def _storage(self) -> dict[str, resolved.Storage]:
        entries = self.file.storage or {"shared": written.Storage()}
        return {name: self._one_storage(name, storage) for name, storage in entries.items()}

    def _one_storage(self, name: str, storage: written.Storage) -> resolved.Storage:
        path, mount = storage.path, storage.mount
        if storage.kind == "directory" and path:
            path = str(self._absolute(path))
            if placement.elsewhere(self.file):
                mount = mount or path
            if all(kind.shows_directories for kind in placement.kinds(self.file)):
                self._check_directory(Path(path), ("storage", name, "path"))
        volume = storage.kind == "volume"
        if volume:
            mount = mount or f"/mnt/{name}"  # a container's own system covers its /run when it starts
        return resolved.Storage(
            name=name,
            kind=storage.kind,
            path=path,
            pool=(storage.pool or "default") if volume else "",
            volume=(storage.volume or name) if volume else "",
            server=storage.server,
            mount=mount,
        )

    def _check_directory(self, path: Path, location: Location) -> None:
        mode = self._mode(path, location)
        if mode is not None and not stat.S_ISDIR(mode):
            self._problem(location, f"{path} is not a directory", "name a directory")

    def _absolute(self, text: str) -> Path:
        folder = self.path.absolute().parent if self.path else Path.cwd()
        try:
            expanded = Path(text).expanduser()
        except RuntimeError:
            # ~name of somebody who is not here: a file may still be called that.
            expanded = Path(text)
        return folder / expanded

    # -- addresses

    def _reserve_addresses(self, networks: dict[str, resolved.Network]) -> None:
        """Keep what the file gives before anything is filled in, so that the file always wins."""
        for name, host in self.file.hosts.items():
            for network, address in host.addresses.items():
                location: Location = ("hosts", name, "addresses", network)
                if network not in networks:
                    self._unknown(location, "network", network, networks)
                elif address != written.OWN_ADDRESS:
                    self._reserve(network, address, location)
        for name, guest in self.file.guests.items():
            network = guest.network or next(iter(_for_guests(networks)), "")
            if guest.address and _kind(guest).has_devices and network in _for_guests(networks):
                self._reserve(network, guest.address, ("guests", name, "address"))

    def _reserve(self, network: str, address: str, location: Location) -> None:
        pool = self.pools[network]
        if fault := pool.reserve(address, location, self.document.line(location)):
            others = [name for name, other in self.pools.items() if IPv4Address(address) in other.subnet]
            free = pool.free() if len(self.problems) < MOST_SHOWN else ""
            hint = f"it belongs to the network {others[0]!r}" if others and others[0] != network else free
            self._problem(location, fault, hint)

    def _take(self, network: str, first_offset: int, location: Location) -> str:
        pool = self.pools[network]
        address = pool.take(first_offset, ".".join(map(str, location)))
        if address is None:
            message = f"the network {network!r} ({pool.subnet}) has no free address left"
            self._problem(location, message, "give the network a larger subnet")
        return address or ""

    # -- hosts

    def _host(self, name: str, host: written.Host) -> resolved.Host:
        if name == "client":
            message = "'client' is the name of what probes the guests"
            self._problem(("hosts", name), message, "choose another name")
        if name in self.file.guests:
            line = self.document.line(("guests", name))
            message = f"the guest in line {line} has the same name, and verbs take either"
            self._problem(("hosts", name), message, "rename one of them")
        kind = host_kinds.KINDS[host.kind]
        here = not kind.own_system
        addresses = {
            network: host.addresses.get(network)
            or (self._take(network, FIRST_HOST_OFFSET, ("hosts", name)) if here else written.OWN_ADDRESS)
            for network in self.pools
        }
        launched = not (kind.adopting and getattr(host, kind.adopting))
        named = enumerate(self.pools) if kind.interface else ()
        interfaces = {network: f"{kind.interface}{index}" for index, network in named}
        return resolved.Host(
            name=name,
            kind=host.kind,
            qemu=str(self._absolute(host.qemu)) if here and "/" in host.qemu else host.qemu,
            qemu_firmware=tuple(str(self._absolute(f)) if here else f for f in host.qemu_firmware),
            memory_bytes=parse_bytes(host.memory) if host.memory else None,
            addresses=addresses,
            links={**interfaces, **host.links},
            machine=host.machine,
            image=host.image or (kind.image if launched else ""),
            adopt=host.adopt,
            remote=host.remote,
            project=host.project,
            tls=host.tls,
        )

    def _check_hosts(self, hosts: dict[str, resolved.Host], guests: dict[str, resolved.Guest]) -> None:
        if not hosts:
            self._problem(("hosts",), "a lab needs at least one host", "for instance `hosts: {host1: {}}`")
        for name, host in hosts.items():
            needed_bytes = sum(guest.memory_bytes for guest in guests.values() if guest.host == name)
            if host.memory_bytes is not None and needed_bytes > host.memory_bytes:
                message = (
                    f"{format_bytes(host.memory_bytes)} does not hold the guests that start there, "
                    f"which have {format_bytes(needed_bytes)}"
                )
                self._problem(("hosts", name, "memory"), message, "raise it, or start a guest elsewhere")

    # -- guests

    def _guests(
        self, networks: dict[str, resolved.Network], storage: dict[str, resolved.Storage]
    ) -> dict[str, resolved.Guest]:
        guests: dict[str, resolved.Guest] = {}
        for name, guest in self.file.guests.items():
            if guest.host not in self.file.hosts:
                self._unknown(("guests", name, "host"), "host", guest.host, self.file.hosts)
            kind = _kind(guest)
            if not kind.has_devices:
                self._refuse_devices(name, guest)
            self._refuse_without_driver(name, guest)
            network = self._guest_network(name, guest, networks) if kind.has_devices else ""
            guests[name] = resolved.Guest(
                name=name,
                host=guest.host,
                image=_image_name(guest),
                memory_bytes=self._memory_bytes(name, guest),
                cpus=guest.cpus,
                accel=guest.accel,
                machine=guest.machine,
                cpu=guest.cpu,
                network=network,
                nic=guest.nic,
                address=self._guest_address(name, guest, network),
                disk=self._disk(name, guest, storage) if kind.has_devices else None,
                disk_image=None if isinstance(guest.image, str) else self._disk_image(name, guest.image),
                display=guest.display if "display" in guest.model_fields_set else default_display(guest),
                migration=wishes.of(self.file.migration, guest.migration),
            )
        return guests

    def _refuse_devices(self, name: str, guest: written.Guest) -> None:
        refused = ["network", "nic", "address", "disk", *(["display"] if guest.display == "vga" else [])]
        for key in refused:
            if key in guest.model_fields_set:
                what = {"disk": "disk", "display": "screen"}.get(key, "network")
                message = f"a guest with the image {guest.image!r} has no {what}"
                hint = f"remove the key, or take the image {image_kinds.MICRO.name!r}"
                self._problem(("guests", name, key), message, hint)

    def _refuse_without_driver(self, name: str, guest: written.Guest) -> None:
        """Its kernel has to know the hardware; whoever brings a disk may have brought the drivers."""
        if guest.disk.source:
            return
        models: tuple[tuple[tuple[str, ...], str], ...] = ((("nic",), guest.nic), (("disk", "bus"), guest.disk.bus))
        for keys, model in models:
            if model in _kind(guest).lacks_drivers:
                message = f"the kernel of the image {guest.image!r} has no driver for {model}"
                hint = f"take the image {image_kinds.MICRO_GENERIC.name!r}"
                self._problem(("guests", name, *keys), message, hint)

    def _memory_bytes(self, name: str, guest: written.Guest) -> int:
        kind = _kind(guest)
        if not guest.memory:
            return kind.memory_bytes
        memory_bytes, floor_bytes = parse_bytes(guest.memory), kind.least_memory_bytes
        if memory_bytes < floor_bytes:
            message = f"{guest.memory} is too little for the image {_image_name(guest)!r}"
            hint = f"it needs at least {format_bytes(floor_bytes)}"
            self._problem(("guests", name, "memory"), message, hint)
        return memory_bytes

    def _guest_network(self, name: str, guest: written.Guest, networks: dict[str, resolved.Network]) -> str:
        usable = _for_guests(networks)
        location = ("guests", name, "network")
        if not guest.network:
            if not usable:
                message = "no network of this lab is for guests"
                self._problem(("guests", name), message, "add a network without `purpose: migration`")
            return next(iter(usable), "")
        if guest.network not in networks:
            self._unknown(location, "network", guest.network, usable)
            return ""
        if guest.network not in usable:
            message = f"the network {guest.network!r} is for migration, guests are not attached to it"
            hint = f"for guests there is {listed(usable)}" if usable else "add a network for guests"
            self._problem(location, message, hint)
            return ""
        return guest.network

    def _guest_address(self, name: str, guest: written.Guest, network: str) -> str:
        if not network:
            return ""
        return guest.address or self._take(network, FIRST_GUEST_OFFSET, ("guests", name))

    def _disk(self, name: str, guest: written.Guest, storage: dict[str, resolved.Storage]) -> resolved.Disk:
        disk = guest.disk
        place = disk.storage or next(iter(storage))
        if place not in storage:
            self._unknown(("guests", name, "disk", "storage"), "storage", place, storage)
        source = str(self._absolute(disk.source)) if disk.source else ""
        given = disk.model_fields_set
        if source:
            self._check_source(Path(source), ("guests", name, "disk", "source"))
        self._check_overlay(name, guest)
        return resolved.Disk(
            storage=place,
            file=f"{name}.{disk.format}",
            format=disk.format,
            source=source,
            bus=disk.bus,
            cache=disk.cache,
            # A format that somebody wrote is meant: it takes a copy.
            overlay=False if disk.overlay is None and disk.format == "raw" and "format" in given else disk.overlay,
        )

    def _check_overlay(self, name: str, guest: written.Guest) -> None:
        disk, location = guest.disk, ("guests", name, "disk")
        if not _kind(guest).boots_disk:
            if disk.overlay:
                message = f"the image {guest.image!r} is copied: it is no base for an overlay"
                self._problem((*location, "overlay"), message, "remove the key, or take an image that boots by itself")
            return
        if disk.source:
            hint = "write `image: {path: ...}` to start from a disk of yours"
            self._problem((*location, "source"), "the image is the disk already", hint)
        if disk.overlay and disk.format == "raw" and "format" in disk.model_fields_set:
            self._problem((*location, "format"), "an overlay is a qcow2 file", "remove one of `format` and `overlay`")

    def _disk_image(self, guest: str, image: written.DiskImage) -> resolved.DiskImage:
        location = ("guests", guest, "image")
        files = {key: str(self._absolute(text)) for key in _IMAGE_FILES if (text := getattr(image, key))}
        for key, file in files.items():
            self._check_source(Path(file), (*location, key), "a disk" if key == "path" else "a")
        for message, hint in _image_faults(image):
            self._problem(location, message, hint)
        keyless = bool(image.key) or not image.ssh
        return resolved.DiskImage(
            url=image.url,
            sha256=image.sha256.lower(),
            format=image.format,
            firmware=image.firmware,
            seed=image.seed or ("none" if keyless else "nocloud"),
            user=image.user if image.ssh else "",
            append=image.append,
            **files,
        )

    def _check_source(self, source: Path, location: Location, what: str = "a disk") -> None:
        mode = self._mode(source, location)
        if mode is None:
            return
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            self._problem(location, f"{source} is not {what} file", _HINTS.get(what, "name a file"))
        elif not os.access(source, os.R_OK):
            self._problem(location, f"{source} may not be read by this user", "let this user read it, or name a copy")

    def _mode(self, path: Path, location: Location) -> int | None:
        """What *path* is, as ``stat`` tells it; None after a problem."""
        hint = "a relative path begins in the lab file's folder"
        try:
            return path.stat().st_mode
        except FileNotFoundError:
            self._problem(location, f"{path} does not exist", hint)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self._problem(location, f"{path} cannot be used: {reason}", hint)
        return None


def default_display(guest: written.Guest) -> resolved.Display:
    """What a guest is given to show itself on when the lab file does not say.

    A disk that boots by itself shows on a screen what it does; a kernel that is started directly, as those of all
    images that limosa builds are, has its console on the serial line.
    """
    direct = not isinstance(guest.image, str) and bool(guest.image.kernel)
    return "vga" if _kind(guest).boots_disk and not direct else "none"


def _kind(guest: written.Guest) -> image_kinds.ImageKind:
    return image_kinds.of(guest.image) if isinstance(guest.image, str) else image_kinds.OWN_DISK


def _image_name(guest: written.Guest) -> str:
    return guest.image if isinstance(guest.image, str) else image_kinds.OWN_DISK.name


_HINTS = {"a disk": "name a raw or qcow2 file"}
_IMAGE_FILES = ("path", "key", "kernel", "initrd")


def _image_faults(image: written.DiskImage) -> Iterator[tuple[str, str]]:
    """What does not fit together, each with its way out."""
    if bool(image.path) == bool(image.url):
        which = "both of 'path' and 'url'" if image.path else "neither 'path' nor 'url'"
        yield f"the image has {which}", "give one of them"
    if image.url and not image.sha256:
        yield "the key 'sha256' is missing: what is fetched has to be checked", "its publisher names it beside the file"
    if (image.initrd or image.append) and not image.kernel:
        yield "'initrd' and 'append' are for a kernel that QEMU starts", "add 'kernel', or remove them"
    if image.kernel and image.firmware == "uefi":
        yield "a kernel that QEMU starts directly needs no 'firmware: uefi'", "remove one of them"
    if not image.ssh and (image.key or image.seed == "nocloud"):
        yield "'key' and 'seed: nocloud' are for a system that one logs in to by SSH", "remove 'ssh: false'"
    if image.ssh and image.seed == "none" and not image.key:
        yield "nobody could log in without 'seed: nocloud' and without a key", "give 'key', or 'ssh: false'"


def _for_guests(networks: dict[str, resolved.Network]) -> dict[str, resolved.Network]:
    return {name: network for name, network in networks.items() if network.purpose == "guests"}
