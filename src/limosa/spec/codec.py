"""The resolved lab as JSON and back.

Rule: nothing but msgspec is imported, for every verb on a running lab comes by here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from limosa import untrusted
from limosa.errors import SpecError
from limosa.spec import host_kinds
from limosa.spec.resolved import Guest, Host, Lab, Network, Storage


def encode(lab: Lab) -> bytes:
    """*lab* as indented JSON; equal labs give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(lab), indent=2) + b"\n"


def decode(data: bytes) -> Lab:
    """The lab that ``encode`` wrote. Raises SpecError when *data* is anything else."""
    try:
        lab = untrusted.decode(data, type=Lab)
    except msgspec.DecodeError as error:
        raise _not_ours(error) from error
    # Names become paths; a file that was edited by hand gets no further with one that cannot be.
    untrusted.check_name(lab.name, "lab")
    kinds: dict[str, Mapping[str, Network | Storage | Host | Guest]]
    kinds = {"network": lab.networks, "storage": lab.storage, "host": lab.hosts, "guest": lab.guests}
    for what, things in kinds.items():
        for key, thing in things.items():
            untrusted.check_name(key, what)
            if thing.name != key:
                raise _not_ours(f"the {what} {key} is called {thing.name!r}")
    for host in lab.hosts.values():
        if host.kind not in host_kinds.KINDS:
            raise _not_ours(f"the host {host.name} is of the kind {host.kind!r}")
    return lab


def _not_ours(why: object) -> SpecError:
    return SpecError(f"not a resolved lab of this version of Limosa: {why}", hint="resolve the lab file anew")
