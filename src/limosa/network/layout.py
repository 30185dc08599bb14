"""Plans of a lab's links: pure functions that yield lines for ``ip -batch`` and ``tc -batch``.

In the fabric each network is a bridge, on which the client has an address. Each host has a virtual Ethernet pair
per network: one end on the fabric's bridge, the other in the host as ``eth0``, ``eth1``, ... In the host, a network
for guests has a bridge (``br0``) over that end, with one TAP per guest; a network for migration has none.
"""

from __future__ import annotations

from limosa.spec import addresses, resolved

_LATENCY_MS = 50
"""How long the shaper queues before it drops: tc-tbf(8) asks for latency or a limit; 50 ms is its page's example."""

_BURST_S = 0.002
"""The bucket holds 2 ms of the rate: tc-tbf(8) wants at least rate/HZ (4 ms at HZ=250 would let bursts through)."""

_MIN_BURST_BYTES = 64 * 1024
"""One segmentation-offload packet has to fit into the bucket."""


def bridge(lab: resolved.Lab, network: str, host: str = "") -> str:
    """The bridge (or plain interface) that carries *network* on each host (of namespaces, or on *host*)."""
    index = list(lab.networks).index(network)
    if lab.networks[network].purpose != "guests":
        return f"eth{index}"
    return f"{_prefix(lab, host)}br{index}"


def tap(lab: resolved.Lab, guest: str, host: str = "") -> str:
    """The TAP interface of *guest* on *host*."""
    return f"{_prefix(lab, host)}tap{list(lab.guests).index(guest)}"


def _prefix(lab: resolved.Lab, host: str) -> str:
    """Nothing on a host that is the lab's alone; elsewhere other labs and other people have interfaces too."""
    shared = host in lab.hosts and not lab.hosts[host].made
    return f"l{_digest(lab)[:5]}" if shared else ""


def _digest(lab: resolved.Lab) -> str:
    """Letters that tell this lab from every other: of its mark, not of a path, for many machines have the same paths.

    Only a lab that has no mark, for a version without ids brought it up, keeps the names that it has by its path.
    """
    import hashlib

    return hashlib.sha256((lab.mark or f"{lab.name}/{lab.file}").encode()).hexdigest()


def uplink_end(lab: resolved.Lab, network: str) -> str:
    """This machine's end of what joins the fabric with a bridge of it, at most 15 bytes."""
    return f"lim{_digest(lab)[:8]}.{list(lab.networks).index(network)}"


def uplink(lab: resolved.Lab, network: str, pid: int) -> list[str]:
    """Join the fabric, whose first process is *pid*, with the network's bridge on this machine."""
    end = uplink_end(lab, network)
    return [
        f"link add name {end} type veth peer name {network}.up netns {pid}",
        f"link set {end} master {lab.networks[network].bridge}",
        f"link set {end} up",
    ]


def uplink_removed(lab: resolved.Lab, network: str) -> list[str]:
    """Undo ``uplink``; the fabric's end goes with this one."""
    return [f"link del {uplink_end(lab, network)}"]


def uplink_inside(network: str) -> list[str]:
    """The fabric's side of ``uplink``."""
    return [f"link set {network}.up master {network}", f"link set {network}.up up"]


def outer_end(lab: resolved.Lab, host: str, network: str) -> str:
    """The fabric's end of a host's link, at most 15 bytes."""
    index = list(lab.networks).index(network)
    name = f"{host}.{index}"
    return name if len(name) <= 15 else f"h{list(lab.hosts).index(host)}.{index}"


def mac_address(lab: resolved.Lab, host: str, network: str) -> str:
    """A host's own address in *network*: the same each time that it is switched on, as a machine's is.

    With another one its neighbours would send to the address that they remember for up to 20 s.
    """
    taken = {guest.mac for guest in lab.guests.values()}
    return addresses.mac_address(lab.mark or lab.name, f"{host}/{network}", taken)


def fabric(lab: resolved.Lab) -> list[str]:
    """The client's side: one bridge per network, with the client's address."""
    lines = ["link set lo up"]
    for network in lab.networks.values():
        lines += [
            f"link add name {network.name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"addr add {network.client_address}/{network.prefix_length} dev {network.name}",
            f"link set {network.name} up",
        ]
    return lines


def outer_links(lab: resolved.Lab, host: str, pid: int) -> list[str]:
    """The links of *host*, made in the fabric; *pid* is the host's first process as the fabric sees it."""
    lines = []
    for index, network in enumerate(lab.networks):
        end = outer_end(lab, host, network)
        lines += [
            f"link add name {end} type veth peer name eth{index} address {mac_address(lab, host, network)} netns {pid}",
            f"link set {end} master {network}",
            f"link set {end} up",
        ]
    return lines


def outer_links_removed(lab: resolved.Lab, host: str) -> list[str]:
    """The end of ``outer_links``; those that are gone already fail."""
    return [f"link del dev {outer_end(lab, host, network)}" for network in lab.networks]


def host_links(lab: resolved.Lab, host: str) -> list[str]:
    """The host's side of its links, its bridges and addresses."""
    lines = ["link set lo up"]
    for index, network in enumerate(lab.networks.values()):
        carrier = bridge(lab, network.name)
        if carrier.startswith("br"):
            lines += [
                f"link add name {carrier} address {mac_address(lab, host, network.name)} "
                "type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                f"link set eth{index} master {carrier}",
                f"link set {carrier} up",
            ]
        lines += [
            f"link set eth{index} up",
            f"addr add {lab.hosts[host].addresses[network.name]}/{network.prefix_length} dev {carrier}",
        ]
    return lines


def taps(lab: resolved.Lab) -> list[str]:
    """One TAP for each guest that has a NIC; on every host, so that a migration need not make one."""
    lines = []
    for guest in lab.guests.values():
        if guest.network:
            name = tap(lab, guest.name)
            lines += [
                f"tuntap add dev {name} mode tap",
                f"link set {name} master {bridge(lab, guest.network)}",
                f"link set {name} up",
            ]
    return lines


def link_state(lab: resolved.Lab, host: str, state: str) -> list[str]:
    """Cut a host off (*state* ``down``) or join it again (``up``), on every network, in the fabric."""
    return [f"link set {outer_end(lab, host, network)} {state}" for network in lab.networks]


def shaping(network: resolved.Network, device: str) -> list[str]:
    """``tc -batch`` lines that give *device* the network's rate and one-way delay."""
    lines, parent = [], "root"
    if network.delay_ms is not None:
        lines.append(f"qdisc add dev {device} root handle 1: netem delay {network.delay_ms:g}ms limit 100000")
        parent = "parent 1:1"
    if network.rate_bits_per_s is not None:
        burst = max(_MIN_BURST_BYTES, int(network.rate_bits_per_s / 8 * _BURST_S))
        rate = f"rate {network.rate_bits_per_s}bit burst {burst} latency {_LATENCY_MS}ms"
        lines.append(f"qdisc add dev {device} {parent} handle 2: tbf {rate}")
    return lines


def outer_shaping(lab: resolved.Lab, host: str) -> list[str]:
    """Towards the host: on the fabric's ends."""
    return [ln for n in lab.networks.values() for ln in shaping(n, outer_end(lab, host, n.name))]


def host_shaping(lab: resolved.Lab) -> list[str]:
    """Away from the host: on its own ends."""
    return [ln for index, n in enumerate(lab.networks.values()) for ln in shaping(n, f"eth{index}")]
