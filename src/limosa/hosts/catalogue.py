"""Where the package of each kind of host is; it is imported when a lab has such a host.

A kind's module has ``of(name, surroundings)``, which returns what keeps to the port ``Kind``. The kinds' traits, which
the lab file is read by, are in ``limosa.spec.host_kinds``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from limosa.hosts.kind import FabricKind, Kind, Surroundings, Traces
from limosa.hosts.namespaces.kind import NamespaceKind
from limosa.hosts.namespaces.traces import FabricTraces
from limosa.spec import host_kinds

PACKAGES = {
    host_kinds.NAMESPACES.name: "limosa.hosts.namespaces.kind",
    host_kinds.INCUS.name: "limosa.hosts.containers.kind",
    host_kinds.LXD.name: "limosa.hosts.containers.kind",
    host_kinds.SSH.name: "limosa.hosts.ssh.kind",
}


def kind(name: str, surroundings: Surroundings) -> Kind:
    """What is responsible for the lab's hosts of the kind *name*."""
    made: Kind = importlib.import_module(PACKAGES[name]).of(name, surroundings)
    return made


def fabric(surroundings: Surroundings) -> FabricKind:
    """The kind whose hosts have no system of their own, and whose fabric is the client's place in most labs."""
    return NamespaceKind(host_kinds.NAMESPACES.name, surroundings)


def traces(path: Path, recorded: Callable[[], Mapping[str, msgspec.Raw]]) -> Traces:
    """What runs on this machine of the lab with the directory *path*, of which the kinds' parts are *recorded*."""
    return FabricTraces(path, recorded)
