"""Who may reach the ports on which guests arrive: the lab's other hosts, over the network that migration takes.

A stream that waits for its sender takes the first one. Linux takes a packet for any of its addresses on any interface,
and may pass packets on, so listening on one address keeps nobody out: neither a guest, which is beside its host on a
bridge, nor whoever else is on a network. The hosts that are limosa's own refuse them by rules of their routing, which
every Linux has; a packet filter need not be there. On other people's machines nothing is changed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from limosa import tasks
from limosa.errors import LimosaError
from limosa.network import ip, layout
from limosa.process import Runner
from limosa.spec import resolved

PORTS = range(61000, 65535)
"""Where a target listens: above the ports that Linux takes for outgoing connections (32768 to 60999), whose answers
must not be refused. In a rule of routing a range may not end with 65535."""

_AWAY, _PEERS, _OTHERS, _LOCAL = 50, 51, 52, 53
"""Priorities of our rules; ``local``, which the kernel has first of all, goes behind them."""
_KERNEL = "protocol 2"
"""The kernel: systemd-networkd in a container removes rules that it did not make, but for those."""
_TCP = "ipproto 6"
"""By its number, as protocols' names are in a file that a small container has not (/etc/protocols)."""


class _Rule(msgspec.Struct, frozen=True):
    """As much of ``ip -json rule`` as is asked for."""

    priority: int


def guarded(lab: resolved.Lab, host: str) -> bool:
    """Whether *host* is limosa's own, so that its routing may be changed."""
    return lab.hosts[host].made


def lines(
    lab: resolved.Lab, host: str, addresses: Mapping[str, str], carriers: Mapping[str, str], has: Sequence[int]
) -> list[str]:
    """What makes *host* refuse strangers, for ``ip -batch``. *addresses* are the hosts' in the migration network, by
    host; *carriers* are the interfaces of *host*, by network; *has* the priorities of its rules, one for each rule.
    """
    to, own = lab.migration_network, addresses[host]
    others = [address for name, address in addresses.items() if name != host]
    ports = f"to {own} {_TCP} dport {PORTS.start}-{PORTS.stop - 1}"
    begin = [f"rule del pref {priority}" for priority in sorted(has, reverse=True) if _AWAY <= priority < _LOCAL]
    away = [c for n, c in carriers.items() if to.purpose == "migration" and c != carriers[to.name] and n != to.name]
    return [
        *begin,
        *(f"rule add pref {_AWAY} iif {name} to {to.subnet} prohibit {_KERNEL}" for name in away),
        *(
            f"rule add pref {_PEERS} iif {carriers[to.name]} from {other} {ports} lookup local {_KERNEL}"
            for other in others
        ),
        f"rule add pref {_OTHERS} {ports} prohibit {_KERNEL}",
        # Only now do they count. Without ``local`` the host would have no addresses, so it is never missing.
        *([f"rule add pref {_LOCAL} lookup local {_KERNEL}"] if _LOCAL not in has else []),
        *(["rule del pref 0 lookup local"] if 0 in has else []),
    ]


async def apply(lab: resolved.Lab, hosts: Iterable[Runner], addresses: Mapping[str, str]) -> dict[str, str]:
    """Have those of *hosts* that are limosa's own refuse strangers; return which cannot, and why, by host.

    *addresses* are those that are known in the migration network.
    """
    whole = {name: address for name, address in addresses.items() if _is_address(address)}
    own = [host for host in hosts if guarded(lab, host.name) and host.name in whole]
    said = await tasks.together(_guard(lab, host, whole) for host in own)
    return {host.name: why for host, why in zip(own, said, strict=True) if why}


async def close_fabric(client: Runner, lab: resolved.Lab) -> None:
    """Keep the fabric from passing packets on to the network that only migration takes.

    A new network namespace forwards where the machine does, and that does with a container daemon.
    """
    to = lab.migration_network
    others = [name for name in lab.networks if to.purpose == "migration" and name != to.name]
    closed = [f"rule add pref {_AWAY} iif {name} to {to.subnet} prohibit {_KERNEL}" for name in others]
    await ip.apply(client, "ip", closed, all_of_them=True)  # those that are there already fail


async def _guard(lab: resolved.Lab, host: Runner, addresses: Mapping[str, str]) -> str:
    try:
        rules = ip.answer(host, (await host.run(["ip", "-json", "-4", "rule", "show"])).stdout, type=_Rule)
        has = [rule.priority for rule in rules]
        carriers = await _carriers(lab, host)
        await ip.apply(host, "ip", lines(lab, host.name, addresses, carriers, has), as_root=True)
    except LimosaError as error:
        return error.message
    return ""


async def _carriers(lab: resolved.Lab, host: Runner) -> dict[str, str]:
    """The interface of *host* that has its address in each network."""
    if not lab.hosts[host.name].traits.own_system:
        return {network: layout.bridge(lab, network) for network in lab.networks}
    from limosa.network import attachment

    has = await attachment.interfaces(host)
    return {network: attachment.carrier(lab, host.name, network, has) for network in lab.networks}


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
