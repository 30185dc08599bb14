"""What of the networks between hosts of their own would spoil a migration, and can be seen before: findings.

A bridge with the spanning tree protocol keeps a guest silent that has just arrived; a way that loses large packets
lets the migration connect and then stand still.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from limosa import tasks
from limosa.capabilities import Finding
from limosa.errors import LimosaError
from limosa.network import attachment, echo, guard
from limosa.network.attachment import Interface
from limosa.process import Runner
from limosa.spec import resolved

Seen = Mapping[str, Mapping[str, Interface]]
"""The interfaces of each host, by its name."""

_PROGRAM = Path(echo.__file__)


def spanning_tree(lab: resolved.Lab, host: str, has: Mapping[str, Interface]) -> Finding:
    """Whether the bridges that guests get on *host* let a new port send at once."""
    used = dict.fromkeys(guest.network for guest in lab.guests.values() if guest.network)
    over = {attachment.carrier(lab, host, network, has) for network in used}
    slow = [has[name] for name in sorted(over & has.keys()) if has[name].silence_s]
    if not slow:
        return Finding("spanning tree", True, "off: a guest that arrives is heard at once")
    first = slow[0]
    return Finding(
        "spanning tree",
        False,
        f"bridge {first.name} uses STP: a guest that starts or arrives there is silent for {first.silence_s:g} s",
        f"on {host}, if its ports make no loop: sudo ip link set {first.name} type bridge stp_state 0",
    )


def strangers(lab: resolved.Lab, host: str) -> Finding:
    """Whether the host refuses strangers who send to a guest that is arriving."""
    name = "guard of arriving guests"
    if guard.guarded(lab, host):
        return Finding(name, True, "only the lab's hosts reach the ports that migration takes", required=False)
    ports = f"TCP ports {guard.PORTS.start} to {guard.PORTS.stop - 1}"
    return Finding(
        name,
        False,
        f"whoever reaches {host} can send to a guest that is arriving ({ports}), and read what is sent: no TLS yet",
        f"use a network that only the hosts are on (purpose: migration), and have {host} take these ports "
        "from the other hosts alone",
        required=False,
    )


async def path_sizes(lab: resolved.Lab, hosts: Mapping[str, Runner], seen: Seen) -> list[Finding]:
    """For each two hosts, whether packets as large as their interfaces make them pass, in the migration network."""
    known = [name for name in hosts if lab.networks and name in seen and _address(lab, name, seen[name])]
    pairs = list(itertools.combinations(known, 2))
    return await tasks.together(_path_size(lab, hosts[one], other, seen) for one, other in pairs)


async def _path_size(lab: resolved.Lab, one: Runner, other: str, seen: Seen) -> Finding:
    """One question each pair: the answer is as large as the question, so both directions are seen."""
    links = {name: _carrier(lab, name, seen[name]) for name in (one.name, other)}
    size = min(link.mtu for link in links.values())
    name, address = "packet size", _address(lab, other, seen[other])
    argv = ["python3", "-I", "-S", "-", address, str(size)]
    try:
        done = await one.run(argv, stdin=_PROGRAM.read_bytes(), as_root=True, timeout_s=30)
        passes = int(done.text)
    except (LimosaError, ValueError) as error:
        return Finding(name, True, f"{one.name} to {other}: not known: {error}", required=False)
    if passes == size:
        return Finding(name, True, f"{size} bytes pass between {one.name} and {other}")
    if not passes:
        detail = f"{one.name} to {other}: not known, as {address} answers no ICMP echo"
        return Finding(name, True, detail, required=False)
    where = " and ".join(f"{link.name} of {host}" for host, link in links.items())
    return Finding(
        name,
        False,
        f"packets of {size} bytes are lost between {one.name} and {other}, those of {passes} are not: "
        "a move would begin and stand still",
        f"raise the MTU of what is between them, or: sudo ip link set dev INTERFACE mtu {passes} for {where}",
    )


async def remarks(lab: resolved.Lab, hosts: Mapping[str, Runner]) -> list[str]:
    """What a person should know before a guest moves between *hosts*, in sentences; empty when all is well."""
    try:
        seen = dict(zip(hosts, await tasks.together(map(attachment.interfaces, hosts.values())), strict=True))
        found = [(f"{name}: ", spanning_tree(lab, name, seen[name])) for name in hosts]
    except LimosaError as error:
        return [f"what is between the hosts was not looked at: {error.message}"]
    found += [("", finding) for finding in await path_sizes(lab, hosts, seen)]
    return [f"{where}{finding.detail}; {finding.fix}" for where, finding in found if not finding.ok]


def _carrier(lab: resolved.Lab, host: str, has: Mapping[str, Interface]) -> Interface:
    """What has, or will have, the host's address in the migration network."""
    network = lab.migration_network.name
    return has.get(attachment.carrier(lab, host, network, has)) or has[lab.hosts[host].links[network]]


def _address(lab: resolved.Lab, host: str, has: Mapping[str, Interface]) -> str:
    try:
        return attachment.held(lab, host, lab.migration_network.name, has)
    except LimosaError:
        return ""  # it has no such interface, which is told elsewhere
