"""Whether somebody else has an address already, asked of a network before the lab gives it to anybody.

Only where others can be: a network of namespaces alone that no bridge joins with anything holds nobody but the lab.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from limosa import untrusted
from limosa.errors import LimosaError, StateError
from limosa.events import Events
from limosa.network import arp
from limosa.process import Runner
from limosa.spec import resolved

_PROGRAM = Path(arp.__file__)


class Wanted(msgspec.Struct, frozen=True):
    """An address that somebody of the lab is about to get."""

    whose: str
    key: str
    """Where a person writes another one in the lab file, in words."""
    mac: str = ""
    """The MAC that it may answer with: the guest itself is no stranger. Empty: none."""


def shared(lab: resolved.Lab, network: str) -> bool:
    """Whether anybody but the lab may be on *network*."""
    return bool(lab.networks[network].bridge) or any(host.traits.own_system for host in lab.hosts.values())


async def check(
    lab: resolved.Lab, network: str, host: Runner, interface: str, wanted: Mapping[str, Wanted], events: Events
) -> None:
    """Raise StateError when somebody has one of the addresses *wanted* in *network*, as *host* finds on *interface*.

    Where *host* cannot ask, it is said that nothing is known.
    """
    try:
        found = await ask(host, interface, wanted)
    except LimosaError as error:
        told = f"whether somebody has {', '.join(wanted)} already is not known: {error.message}"
        events.note(told, level="warning")
        return
    for address, mac in found.items():
        raise StateError(
            f"{address} is in use already in the network {network}: {mac} answers for it, "
            f"and {wanted[address].whose} would cut it off",
            hint=f"limosa down --lab {lab.name}, write another {wanted[address].key} in the lab file, "
            "and up again; or switch off who has it",
        )


async def ask(host: Runner, interface: str, wanted: Mapping[str, Wanted]) -> dict[str, str]:
    """Which of the addresses *wanted* somebody else has, each with the MAC that answers, as *host* finds on
    *interface*. Raises LimosaError where it cannot ask."""
    addresses = {address: one.mac for address, one in wanted.items()}
    argv = [host.python, "-I", "-S", "-", interface, json.dumps(addresses)]
    done = await host.run(argv, stdin=_PROGRAM.read_bytes(), as_root=True, timeout_s=20)
    try:
        return untrusted.decode(done.stdout, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise LimosaError(f"who has which address was not told on {host.name}: {error}") from error
