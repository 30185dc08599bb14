"""What of the networks between hosts of their own would spoil a migration, and can be seen before: findings.

A bridge with the spanning tree protocol keeps a guest silent that has just arrived; a way that loses large packets
lets the migration connect and then stand still.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import msgspec

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


class PathSize(msgspec.Struct, frozen=True, kw_only=True):
    """How large packets may be that go from one host to another and back."""

    hosts: tuple[str, str]
    size_bytes: int
    """What the interfaces of both take."""
    passes_bytes: int
    """The largest that came back; 0: none did."""
    links: tuple[str, str] = ("", "")
    """The interface of each."""
    address: str = ""
    """Who was asked."""

    @property
    def whole(self) -> bool:
        """Whether they pass as large as they may be."""
        return self.passes_bytes == self.size_bytes

    def told(self) -> tuple[str, str]:
        """What is wrong where they do not, and its fix."""
        one, other = self.hosts
        if not self.passes_bytes:
            return f"{one} to {other}: not known, as {self.address} answers no ICMP echo", ""
        where = " and ".join(f"{link} of {host}" for host, link in zip(self.hosts, self.links, strict=True))
        return (
            f"packets of {self.size_bytes} bytes are lost between {one} and {other}, those of {self.passes_bytes} are "
            "not: a move would begin and stand still",
            "raise the MTU of what is between them, or: sudo ip link set dev INTERFACE mtu "
            f"{self.passes_bytes} for {where}",
        )


def silent_bridge(host: str, bridge: str, silence_s: float) -> tuple[str, str]:
    """What a person should know of a bridge that keeps a new port silent for so long, and the fix."""
    return (
        f"bridge {bridge} uses STP: a guest that starts or arrives there is silent for {silence_s:g} s",
        f"on {host}, if its ports make no loop: sudo ip link set {bridge} type bridge stp_state 0",
    )


def spanning_tree(lab: resolved.Lab, host: str, has: Mapping[str, Interface]) -> Finding:
    """Whether the bridges that guests get on *host* let a new port send at once."""
    used = dict.fromkeys(guest.network for guest in lab.guests.values() if guest.network)
    over = {attachment.carrier(lab, host, network, has) for network in used}
    slow = [has[name] for name in sorted(over & has.keys()) if has[name].silence_s]
    if not slow:
        return Finding("spanning tree", True, "off: a guest that arrives is heard at once")
    return Finding("spanning tree", False, *silent_bridge(host, slow[0].name, slow[0].silence_s))


def strangers(lab: resolved.Lab, host: str) -> Finding:
    """Whether the host refuses strangers who send to a guest that is arriving."""
    name = "guard of arriving guests"
    if guard.guarded(lab, host):
        return Finding(name, True, "only the lab's hosts reach the ports that migration takes", required=False)
    if lab.guests and all(resolved.encrypts(guest.migration.tls, lab.hosts[host]) for guest in lab.guests.values()):
        return Finding(name, True, "what is sent to it is encrypted, and its sender has to prove who he is")
    ports = f"TCP ports {guard.PORTS.start} to {guard.PORTS.stop - 1}"
    return Finding(
        name,
        False,
        f"whoever reaches {host} can send to a guest that is arriving ({ports}), and read what is sent",
        f"use a network that only the hosts are on (purpose: migration), and have {host} take these ports "
        "from the other hosts alone; or have `migration: {tls: on}`",
        required=False,
    )


async def path_sizes(lab: resolved.Lab, hosts: Mapping[str, Runner], seen: Seen) -> list[Finding]:
    """For each two hosts, whether packets as large as their interfaces make them pass, in the migration network."""
    known = [name for name in hosts if lab.networks and name in seen and _address(lab, name, seen[name])]
    pairs = list(itertools.combinations(known, 2))
    return await tasks.together(_path_size(lab, hosts[one], other, seen) for one, other in pairs)


async def _path_size(lab: resolved.Lab, one: Runner, other: str, seen: Seen) -> Finding:
    name = "packet size"
    try:
        found = await path_size(lab, one, other, seen)
    except LimosaError as error:
        return Finding(name, True, f"{one.name} to {other}: not known: {error}", required=False)
    if found.whole:
        return Finding(name, True, f"{found.size_bytes} bytes pass between {one.name} and {other}")
    return Finding(name, not found.passes_bytes, *found.told(), required=bool(found.passes_bytes))


async def path_size(lab: resolved.Lab, one: Runner, other: str, seen: Seen, address: str = "") -> PathSize:
    """One question for both directions: the answer is as large. *address* is the other's in the migration network,
    where that is known better. Raises LimosaError where it cannot be asked."""
    links = [_carrier(lab, name, seen[name]) for name in (one.name, other)]
    size, address = min(link.mtu for link in links), address or _address(lab, other, seen[other])
    argv = [one.python, "-I", "-S", "-", address, str(size)]
    done = await one.run(argv, stdin=_PROGRAM.read_bytes(), as_root=True, timeout_s=30)
    try:
        passes = int(done.text)
    except ValueError as error:
        raise LimosaError(str(error)) from error
    return PathSize(
        hosts=(one.name, other),
        size_bytes=size,
        passes_bytes=passes,
        links=(links[0].name, links[1].name),
        address=address,
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
    over = attachment.carrier(lab, host, network, has)
    return has.get(over) or has[lab.hosts[host].links.get(network, over)]


def _address(lab: resolved.Lab, host: str, has: Mapping[str, Interface]) -> str:
    try:
        return attachment.held(lab, host, lab.migration_network.name, has)
    except LimosaError:
        return ""  # it has no such interface, which is told elsewhere
