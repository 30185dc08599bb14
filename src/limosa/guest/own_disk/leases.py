"""Addresses for guests whose disk knows nothing of the lab: they ask by DHCP, and the lab's client answers."""

from __future__ import annotations

import json
from pathlib import Path

from limosa.hosts.host import Host
from limosa.network import dhcp
from limosa.spec import resolved

_PROGRAM = Path(dhcp.__file__)
_LOG = "/dev/null"


def leases(lab: resolved.Lab, network: str) -> dict[str, dict[str, str]]:
    """What each guest in *network* gets, by its MAC."""
    place = lab.networks[network]
    return {
        guest.mac: {
            "address": guest.address,
            "prefix_length": str(place.prefix_length),
            "hostname": guest.name,
            "server": place.client_address,
        }
        for guest in lab.guests.values()
        if guest.network == network
    }


async def serve(client: Host, lab: resolved.Lab, network: str) -> None:
    """Have the DHCP server of *network* run on *client*, with which it ends.

    Where the client is this machine itself there is no wire of the lab's own to answer on, and others answer there.
    A second one finds its port taken and ends by itself: nobody has to remember whether there is one.
    """
    if not lab.has_fabric:
        return
    answers = json.dumps(leases(lab, network))
    await client.spawn([client.python, "-I", "-S", str(_PROGRAM), network, answers], log=_LOG)
