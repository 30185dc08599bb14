"""The kinds of hosts: what each is and can be told, one row a kind. Whoever treats hosts differently asks a row.

What a kind *does* (how its hosts are made, found and taken away) is in its own package, which
``limosa.hosts.catalogue`` names. A new kind is a row here, a row there, and that package.
"""

from __future__ import annotations

import msgspec

CONTAINER_IMAGE = "images:alpine/3.23"
"""Image servers keep no release beyond its end of life (https://github.com/lxc/lxc-ci/pull/829), which 3.20 reached in
April 2026 and this one does in November 2027 (https://alpinelinux.org/releases/)."""


class HostKind(msgspec.Struct, frozen=True, kw_only=True):
    """One row. ``name`` is what a lab file says; keys are those of a host in a lab file."""

    name: str
    thing: str = "host"
    """What people call one of its hosts."""
    own_system: bool = True
    """Whether its hosts have a system, programs, and links of their own. Those of another kind share this machine's,
    and are joined by a fabric that is made for them, in which the client lives."""
    made: bool = True
    """Whether limosa makes its hosts. Another one's are the user's, and go on without the lab."""
    adopting: str = ""
    """The key that names a host of the user's own, which is used and kept where the others are made."""
    here: bool = True
    """Whether its hosts are on this machine, unless they are said to be elsewhere."""
    shows_directories: bool = True
    """Whether a directory of this machine can be shown on its hosts. Others have to have it."""
    has_volumes: bool = False
    """Whether its hosts can share a volume of their daemon's."""
    interface: str = ""
    """How its hosts' interfaces are called, before their number; empty: they have to be said, or are limosa's own."""
    keys: tuple[str, ...] = ()
    """The keys that not all kinds have."""
    needs: dict[str, str] = {}
    """Keys that have to be given, each with an example."""
    image: str = ""
    """What its hosts are launched from when the file does not say."""


NAMESPACES = HostKind(name="namespaces", own_system=False)
_CONTAINERS = HostKind(
    name="",
    thing="container",
    adopting="adopt",
    has_volumes=True,
    interface="eth",
    keys=("image", "adopt", "remote", "project", "links"),
    image=CONTAINER_IMAGE,
)
INCUS = msgspec.structs.replace(_CONTAINERS, name="incus")
LXD = msgspec.structs.replace(_CONTAINERS, name="lxd")
SSH = HostKind(
    name="ssh",
    made=False,
    here=False,
    shows_directories=False,
    keys=("machine", "links"),
    needs={"machine": "for instance `machine: admin@server1`"},
)

KINDS: dict[str, HostKind] = {kind.name: kind for kind in (NAMESPACES, INCUS, LXD, SSH)}
"""By name, in the order in which people are told of them; the first is meant where a file names none."""


def having(key: str) -> list[str]:
    """The names of the kinds whose hosts have *key*."""
    return [kind.name for kind in KINDS.values() if key in kind.keys]
