"""What hosts of each kind, and each kind of storage, can be told: which keys are theirs, and what they need of a lab.

Rule: pure judgement of what is written; ``resolution`` collects the problems with the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from limosa import paths
from limosa.spec import host_kinds, written
from limosa.spec.host_kinds import HostKind
from limosa.spec.problems import Location, listed

_STORAGE_KEYS = {
    "path": frozenset({"directory", "nfs"}),
    "pool": frozenset({"volume"}),
    "volume": frozenset({"volume"}),
    "server": frozenset({"nfs"}),
}

Fault = tuple[Location, str, str]
"""Where, what, and a hint."""


def elsewhere(file: written.LabFile) -> bool:
    """Whether any host has links of its own, so that networks and storage are what they are."""
    return any(kind.own_system for kind in kinds(file))


def kinds(file: written.LabFile) -> list[HostKind]:
    """The kinds of the file's hosts, each once."""
    return [host_kinds.KINDS[name] for name in dict.fromkeys(host.kind for host in file.hosts.values())]


def faults(file: written.LabFile) -> Iterator[Fault]:
    """What kinds of hosts, networks and storage do not fit together."""
    host_keys = {key: frozenset(host_kinds.having(key)) for kind in host_kinds.KINDS.values() for key in kind.keys}
    for name, host in file.hosts.items():
        yield from _wrong_keys(("hosts", name), host, host.kind, host_keys, "hosts")
        yield from _host(name, host, file)
    for name, storage in file.storage.items():
        yield from _wrong_keys(("storage", name), storage, storage.kind, _STORAGE_KEYS, "storage")
        yield from _storage(name, storage, file)
    if elsewhere(file):
        yield from _networks(file)
        if not file.storage:
            hint = f"see {paths.document('hosts.md')}"
            yield ("hosts",), "hosts that are no namespaces need a storage that they share", hint


def _wrong_keys(
    where: Location, entry: object, kind: str, owners: dict[str, frozenset[str]], what: str
) -> Iterator[Fault]:
    for key, kinds in owners.items():
        if key in getattr(entry, "model_fields_set", ()) and kind not in kinds:
            yield (*where, key), f"{key!r} is not for {what} of the kind {kind!r}", f"it is for {listed(sorted(kinds))}"


def _host(name: str, host: written.Host, file: written.LabFile) -> Iterator[Fault]:
    where, kind = ("hosts", name), host_kinds.KINDS[host.kind]
    for key, example in kind.needs.items():
        if not getattr(host, key):
            yield where, f"a host of the kind {kind.name!r} needs its `{key}`", example
    if kind.own_system and not kind.interface:
        for network in file.networks:
            if network not in host.links:
                message = f"which interface of the machine carries the network {network!r} is not said"
                yield where, message, f"for instance `links: {{{network}: br0}}`"
    if kind.adopting and getattr(host, kind.adopting) and host.image:
        yield (*where, "image"), "a container that is adopted is not launched from an image", "remove one of the keys"
    for network in host.links:
        if network not in file.networks:
            yield (*where, "links", network), f"there is no network {network!r}", f"there are {listed(file.networks)}"
    if not kind.own_system:
        for network, address in host.addresses.items():
            if address == written.OWN_ADDRESS:
                message = "namespaces have no address of their own before limosa gives one"
                yield (*where, "addresses", network), message, "write an address, or remove the key"


def _storage(name: str, storage: written.Storage, file: written.LabFile) -> Iterator[Fault]:
    where, of_hosts = ("storage", name), kinds(file)
    if storage.kind == "nfs" and not (storage.server and storage.path):
        yield where, "an NFS storage needs its `server` and its `path`", "for instance `server: host1, path: /srv/vm`"
    if storage.kind == "volume" and not all(kind.has_volumes for kind in of_hosts):
        yield (*where, "kind"), "only containers have volumes", "take a `directory` or `nfs`, which all hosts can reach"
    if storage.kind == "directory" and elsewhere(file) and not storage.path:
        yield where, "hosts that are no namespaces need a directory that exists", "name its `path`, or take `nfs`"
    far = not all(kind.shows_directories for kind in of_hosts)
    if storage.kind == "directory" and far and storage.path and not storage.path.startswith("/"):
        yield (*where, "path"), "on other machines a path begins with /", "write the whole path"

    own_place = storage.mount.startswith("/run/") or storage.mount == storage.path
    if storage.mount and not all(kind.own_system for kind in of_hosts) and not own_place:
        message = "hosts made of namespaces have a place of their own below /run only"
        yield (*where, "mount"), message, "write a mount below /run, or the storage's own path"


def _networks(file: written.LabFile) -> Iterator[Fault]:
    if not file.networks:
        yield ("hosts",), "hosts that are no namespaces are on a network that exists", "describe it under `networks`"
    for name, network in file.networks.items():
        where = ("networks", name)
        if not network.subnet:
            yield where, "this network exists already, so its subnet is not ours to choose", "write its `subnet`"
        for key in ("rate", "delay"):
            if key in network.model_fields_set:
                yield (*where, key), "links are shaped only where all hosts are namespaces", "remove the key"
