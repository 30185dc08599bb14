"""Bridges and TAPs on a host that has a system of its own, over the links that it has; and their removal.

Plans are pure functions of what ``ip -json`` tells. What is made bears the lab's mark as its alias, so that only
that is removed, and a name that somebody else has is seen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

import msgspec

from limosa.deadline import Deadline
from limosa.errors import CommandError, MachineError, StateError
from limosa.network import ip, layout
from limosa.process import Runner
from limosa.spec import resolved

ADDRESS_S = 15.0
"""How long a new container may take until its DHCP client has an address."""

_LABEL_BYTES = 15

OWN = "own"
"""A host's address that is not limosa's to choose."""


class Interface(msgspec.Struct, frozen=True):
    """An interface of a host as ``ip -json -details address`` tells it."""

    name: str
    kind: str = ""
    """``bridge``, ``tun``, ``veth``, ...; empty for hardware."""
    alias: str = ""
    mac: str = ""
    master: str = ""
    addresses: tuple[str, ...] = ()
    """IPv4 with prefix length, ``10.0.0.2/24``."""
    given: tuple[str, ...] = ()
    """Those of them that came from a lab file and were not there before."""
    gateway: str = ""
    """The default route's, if that goes over this interface."""
    metric: int = 0
    """That route's."""
    mtu: int = 0
    silence_s: float = 0.0
    """A bridge's: for how long a new port is silent, by its spanning tree protocol; 0: not at all."""


async def interfaces(host: Runner, *, routes: bool = True) -> dict[str, Interface]:
    """What *host* has, with its default *routes* or without. Raises LimosaError's children."""
    try:
        seen = ip.answer(host, (await host.run(["ip", "-json", "-details", "address", "show"])).stdout)
    except CommandError as error:
        if "BusyBox" not in error.stderr:
            raise
        raise MachineError(
            f"ip on {host.name} is busybox's, which speaks no JSON", hint=f"on {host.name}: apk add iproute2"
        ) from error
    told = await host.run(["ip", "-json", "-4", "route", "show", "default"]) if routes else None
    # Of several over one interface the first is the one that is used.
    ways = ip.answer(host, told.stdout) if told is not None else []
    defaults = {str(way.get("dev", "")): way for way in reversed(ways)}
    try:
        return {str(entry["ifname"]): _interface(entry, defaults) for entry in seen if "ifname" in entry}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ip.no_answer(host) from error


def _interface(entry: Mapping[str, object], defaults: Mapping[str, Mapping[str, object]]) -> Interface:
    told: Mapping[str, object] = entry.get("linkinfo") or {}  # type: ignore[assignment]
    listed: Sequence[Mapping[str, object]] = entry.get("addr_info") or []  # type: ignore[assignment]
    name = str(entry["ifname"])
    held = {f"{a['local']}/{a['prefixlen']}": a.get("label") for a in listed if a.get("family") == "inet"}
    default = defaults.get(name, {})
    return Interface(
        name=name,
        kind=str(told.get("info_kind", "")),
        alias=str(entry.get("ifalias", "")),
        mac=str(entry.get("address", "")),
        master=str(entry.get("master", "")),
        addresses=tuple(held),
        given=tuple(address for address, label in held.items() if label == _label(name) != name),
        gateway=str(default.get("gateway", "")),
        metric=int(str(default.get("metric", 0))),
        mtu=int(str(entry.get("mtu", 0))),
        silence_s=_silence_s(told.get("info_data") or {}),  # type: ignore[arg-type]
    )


def _silence_s(bridge: Mapping[str, object]) -> float:
    """A new port listens and then learns, each for the forward delay, which is told in hundredths of a second."""
    return 2 * int(str(bridge.get("forward_delay", 0))) / 100 if bridge.get("stp_state") else 0.0


def _label(interface: str) -> str:
    """What marks an address on *interface* as added by limosa: the kernel takes 15 bytes that begin with its name."""
    return f"{interface}:lim" if len(interface) <= _LABEL_BYTES - len(":lim") else interface


def carrier(lab: resolved.Lab, host: str, network: str, has: Mapping[str, Interface]) -> str:
    """What carries *network* on *host*: the bridge that is there or will be, or for migration the plain interface.

    An interface that is in a bridge already, whoever made that, stays in it: it has the addresses, and takes the TAPs.
    A host without a system of its own has what the lab's layout gives it. Raises MachineError when the host has no such
    interface.
    """
    if not lab.hosts[host].traits.own_system:
        return layout.bridge(lab, network)
    link = lab.hosts[host].links[network]
    if link not in has:
        others = ", ".join(name for name in has if name != "lo")
        raise MachineError(f"{host} has no interface {link}", hint=f"correct `links`: it has {others or 'none'}")
    if (master := has[link].master) in has and has[master].kind == "bridge":
        return master
    if has[link].kind == "bridge" or lab.networks[network].purpose == "migration":
        return link
    return layout.bridge(lab, network, host)


def attached(lab: resolved.Lab, host: str, mark: str, has: Mapping[str, Interface], owner_uid: int) -> list[str]:
    """Lines for ``ip -batch`` that make what is missing on *host*: bridges over its links, and the guests' TAPs.

    Raises StateError when a name is taken by something that does not bear *mark*.
    """
    lines = ["link set lo up"]
    for network in lab.networks:
        over = carrier(lab, host, network, has)
        link = lab.hosts[host].links[network]
        if over not in (link, has[link].master):
            lines += _bridged(has[link], over, mark, has)
        lines += _own_address(lab, host, network, has, over, link)
    for guest in lab.guests.values():
        if guest.network:
            name = layout.tap(lab, guest.name, host)
            if not _taken(host, name, mark, has):
                owner = f" user {owner_uid}" if owner_uid else ""
                lines += [f"tuntap add dev {name} mode tap{owner}", f'link set {name} alias "{mark}"']
            lines += [f"link set {name} master {carrier(lab, host, guest.network, has)}", f"link set {name} up"]
    return lines


def _taken(host: str, name: str, mark: str, has: Mapping[str, Interface]) -> bool:
    """Whether *name* is there and this lab's. Raises StateError when it is somebody else's."""
    if name in has and has[name].alias != mark:
        raise StateError(
            f"{host} has an interface {name} that is not this lab's", hint=f"remove or rename {name} there"
        )
    return name in has


def _bridged(link: Interface, bridge: str, mark: str, has: Mapping[str, Interface]) -> list[str]:
    """A bridge over *link* that takes its addresses and its default route."""
    lines = []
    if not _taken(link.name, bridge, mark, has):
        settings = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        lines += [f"link add name {bridge} address {link.mac} {settings}", f'link set {bridge} alias "{mark}"']
    lines += [f"link set {link.name} master {bridge}", f"link set {link.name} up", f"link set {bridge} up"]
    return lines + _moved(link, bridge)


def _moved(source: Interface, target: str) -> list[str]:
    """Move the addresses, and the default route, of one interface to another. The route keeps its metric, by which
    the system's DHCP client knows it, and which of several default routes is used."""
    lines = [f"addr del {address} dev {source.name}" for address in source.addresses]
    lines += [f"addr add {address} dev {target}" for address in source.addresses]
    metric = f" metric {source.metric}" if source.metric else ""
    return lines + ([f"route replace default via {source.gateway} dev {target}{metric}"] if source.gateway else [])


def _own_address(
    lab: resolved.Lab, host: str, network: str, has: Mapping[str, Interface], over: str, link: str
) -> list[str]:
    """The address that the file gives, unless the host has it already."""
    wanted = lab.hosts[host].addresses[network]
    held = {address.split("/")[0] for name in (over, link) if name in has for address in has[name].addresses}
    if wanted == OWN or wanted in held:
        return []
    return [f"addr add {wanted}/{lab.networks[network].prefix_length} dev {over} label {_label(over)}"]


def detached(lab: resolved.Lab, host: str, mark: str, has: Mapping[str, Interface]) -> list[str]:
    """Lines that undo ``attached``: only what bears *mark* goes, and addresses go back to where they were."""
    lines = []
    for name, interface in has.items():
        if interface.alias == mark and interface.kind == "tun":
            lines.append(f"link del {name}")
    for name, interface in has.items():
        if interface.alias == mark and interface.kind == "bridge":
            members = [member.name for member in has.values() if member.master == name and member.kind != "tun"]
            lines += [f"link set {member} nomaster" for member in members]
            if members:
                kept = tuple(address for address in interface.addresses if address not in interface.given)
                lines += _moved(msgspec.structs.replace(interface, addresses=kept), members[0])
            lines.append(f"link del {name}")
        else:
            lines += [f"addr del {a} dev {name}" for a in interface.given if _is_of(a, lab.hosts[host])]
    return lines


def _is_of(address: str, host: resolved.Host) -> bool:
    """Whether the lab file gives the host that address: another lab may have given it others."""
    return address.split("/")[0] in host.addresses.values()


async def attach(host: Runner, lab: resolved.Lab, mark: str) -> dict[str, str]:
    """Join *host* to the lab's networks; return its address in each. What is in its place already is kept.

    Raises MachineError, StateError.
    """
    has = await _with_addresses(host, lab)
    await check_routes(host, lab, has)
    uid = int((await host.run(["id", "-u"])).text)
    lines = attached(lab, host.name, mark, has, uid)
    try:
        await ip.apply(host, "ip", lines, as_root=True)
    except CommandError as error:
        if not await ip.opens_tun(host) and any(guest.network for guest in lab.guests.values()):
            message = f"/dev/net/tun cannot be opened on {host.name}, so guests can have no network"
            from limosa.remedies import tun_hint

            there = (await host.run(["test", "-e", "/dev/net/tun"], check=False)).returncode == 0
            raise MachineError(message, hint=tun_hint(there)) from error
        raise
    return await addresses(host, lab)


async def check_routes(host: Runner, lab: resolved.Lab, has: Mapping[str, Interface]) -> None:
    """Raise StateError where the host takes a network's way over an interface that is in a bridge.

    Seen on Alpine, whose DHCP client goes on when /etc/network/interfaces was changed before the network was stopped:
    the interface keeps its address in the bridge, with its route, and nothing that is sent there is answered.
    """
    for name, network in lab.networks.items():
        link = has[lab.hosts[host.name].links[name]]
        held = [a.split("/")[0] for a in link.addresses if _in(a, network.subnet)]
        if not held or (master := has.get(link.master)) is None or master.kind != "bridge":
            continue
        other = next(str(a) for a in ipaddress.ip_network(network.subnet).hosts() if str(a) not in held)
        ways = (await host.run(["ip", "-json", "-4", "route", "get", other], check=False)).stdout
        if any(way.get("dev") == link.name for way in ip.answer(host, ways)):
            raise StateError(
                f"{link.name} on {host.name} is in bridge {link.master} and has the address {held[0]}: "
                f"{network.subnet} cannot be reached over it",
                hint=f"on {host.name}: ip addr flush dev {link.name}, and stop the DHCP client that gave it",
            )


def _in(address: str, subnet: str) -> bool:
    return ipaddress.ip_address(address.split("/")[0]) in ipaddress.ip_network(subnet)


async def _with_addresses(host: Runner, lab: resolved.Lab) -> dict[str, Interface]:
    """The host's interfaces, once those whose address is its own have one."""
    own = [network for network, address in lab.hosts[host.name].addresses.items() if address == OWN]
    has = await interfaces(host)
    async for _ in Deadline.after(ADDRESS_S).ticks(0.25):
        for network in lab.networks:
            carrier(lab, host.name, network, has)
        if all(held(lab, host.name, network, has) for network in own):
            return has
        has = await interfaces(host)
    lacking = next(network for network in own if not held(lab, host.name, network, has))
    raise MachineError(
        f"{host.name} has no address in {lab.networks[lacking].subnet} on {lab.hosts[host.name].links[lacking]}",
        hint="give it one, by DHCP or otherwise, or write one under the host's `addresses`",
    )


def held(lab: resolved.Lab, host: str, network: str, has: Mapping[str, Interface]) -> str:
    """The host's address in *network*, if it has one."""
    subnet = ipaddress.ip_network(lab.networks[network].subnet)
    places = (carrier(lab, host, network, has), lab.hosts[host].links[network])
    held = [a.split("/")[0] for name in places if name in has for a in has[name].addresses]
    return next((address for address in held if ipaddress.ip_address(address) in subnet), "")


def _address(lab: resolved.Lab, host: str, network: str, has: Mapping[str, Interface]) -> str:
    wanted = lab.hosts[host].addresses[network]
    return wanted if wanted != OWN else held(lab, host, network, has)


async def addresses(host: Runner, lab: resolved.Lab) -> dict[str, str]:
    """The address of a *host* that is attached already, in each network; nothing is changed."""
    has = await interfaces(host)
    return {network: _address(lab, host.name, network, has) for network in lab.networks}


async def detach(host: Runner, lab: resolved.Lab, mark: str) -> None:
    """Undo ``attach``. Raises LimosaError's children."""
    await ip.apply(host, "ip", detached(lab, host.name, mark, await interfaces(host)), as_root=True)


async def master(host: Runner, interface: str) -> str:
    """The bridge that *interface* is in; itself where it is in none. Raises LimosaError's children."""
    return (await ip.shown(host, interface)).master or interface


async def towards(client: Runner, address: str) -> str:
    """The address by which *client* is seen from *address*. Raises MachineError when there is no way there."""
    try:
        done = await client.run(["ip", "-json", "route", "get", address])
    except CommandError as error:
        raise MachineError(f"this machine has no route to {address}", hint="is the lab's `subnet` right?") from error
    for way in ip.answer(client, done.stdout):
        if "prefsrc" in way:
            return str(way["prefsrc"])
    raise ip.no_answer(client)
