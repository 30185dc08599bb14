"""What is done to the links of a host with a system of its own, and that it is all undone: the plans alone."""

from __future__ import annotations

import json
from typing import cast

import pytest

from limosa.errors import CommandError, MachineError, StateError
from limosa.hosts.host import Host
from limosa.network import attachment, layout
from limosa.network.attachment import Interface
from limosa.process import Completed
from limosa.spec import resolved

MARK = "/state/lab"
ETH0 = Interface("eth0", mac="02:00:00:00:00:01", addresses=("10.83.0.5/24",), gateway="10.83.0.1")


def lab(address: str = attachment.OWN, adopt: str = "box") -> resolved.Lab:
    networks = {"lan": resolved.Network("lan", "10.83.0.0/24", "10.83.0.1")}
    host = resolved.Host("host1", kind="incus", adopt=adopt, links={"lan": "eth0"}, addresses={"lan": address})
    guest = resolved.Guest("guest1", host="host1", image="micro", memory_bytes=1 << 28, network="lan")
    return resolved.Lab("lab", networks, {}, {"host1": host}, {"guest1": guest})


def names(*interfaces: Interface) -> dict[str, Interface]:
    return {interface.name: interface for interface in interfaces}


def test_an_interface_in_a_bridge_of_the_users_stays_in_it() -> None:
    bare = Interface("eth0", mac=ETH0.mac, master="br0")
    has = names(bare, Interface("br0", kind="bridge", addresses=("10.83.0.5/24",)), Interface("tap0", kind="tun"))
    lines = attachment.attached(lab(), "host1", MARK, has, 0)
    tap = layout.tap(lab(), "guest1", "host1")
    assert f"link set {tap} master br0" in lines
    assert not [line for line in lines if "type bridge" in line or "eth0" in line or " tap0 " in line]
    assert attachment.detached(lab(), "host1", MARK, has | names(Interface(tap, "tun", MARK, master="br0"))) == [
        f"link del {tap}"
    ]


def test_what_is_in_its_place_is_not_done_again() -> None:
    over, tap = layout.bridge(lab(), "lan", "host1"), layout.tap(lab(), "guest1", "host1")
    has = names(
        Interface("eth0", master=over),
        Interface(over, "bridge", MARK, addresses=("10.83.0.5/24",)),
        Interface(tap, "tun", MARK, master=over),
    )
    lines = attachment.attached(lab(), "host1", MARK, has, 0)
    assert lines == ["link set lo up", f"link set {tap} master {over}", f"link set {tap} up"]


def test_a_name_that_somebody_else_has_is_an_error() -> None:
    over = layout.bridge(lab(), "lan", "host1")
    with pytest.raises(StateError, match=f"has an interface {over} that is not this lab's"):
        attachment.attached(lab(), "host1", MARK, names(ETH0, Interface(over, "bridge", "/state/other")), 0)


@pytest.mark.parametrize(
    ("held", "given", "back"),
    [
        (("10.83.0.5/24", "10.83.0.9/24"), ("10.83.0.9/24",), ["10.83.0.5/24"]),
        (("10.83.0.5/24", "10.83.0.9/24"), (), ["10.83.0.5/24", "10.83.0.9/24"]),
    ],
    ids=["the lab's address goes", "an address that the user had too is theirs"],
)
def test_addresses_go_back(held: tuple[str, ...], given: tuple[str, ...], back: list[str]) -> None:
    over = layout.bridge(lab(), "lan", "host1")
    bridge = Interface(over, "bridge", MARK, addresses=held, given=given, gateway="10.83.0.1")
    lines = attachment.detached(lab("10.83.0.9"), "host1", MARK, names(Interface("eth0", master=over), bridge))
    assert [line for line in lines if line.startswith("addr add")] == [f"addr add {a} dev eth0" for a in back]
    assert lines[-2:] == ["route replace default via 10.83.0.1 dev eth0", f"link del {over}"]


def test_an_address_given_to_a_link_of_the_users_is_marked_and_taken_back() -> None:
    bridge = Interface("br0", kind="bridge", addresses=("10.83.0.5/24",))
    eth0 = Interface("eth0", master="br0")
    lines = attachment.attached(lab("10.83.0.9"), "host1", MARK, names(eth0, bridge), 0)
    assert "addr add 10.83.0.9/24 dev br0 label br0:lim" in lines
    after = Interface("br0", kind="bridge", addresses=("10.83.0.5/24", "10.83.0.9/24"), given=("10.83.0.9/24",))
    assert attachment.detached(lab("10.83.0.9"), "host1", MARK, names(eth0, after)) == ["addr del 10.83.0.9/24 dev br0"]


def test_the_default_route_keeps_its_metric_there_and_back() -> None:
    eth0 = Interface("eth0", mac=ETH0.mac, addresses=ETH0.addresses, gateway="10.83.0.1", metric=207)
    over = layout.bridge(lab(), "lan", "host1")
    there = attachment.attached(lab(), "host1", MARK, names(eth0), 0)
    assert f"route replace default via 10.83.0.1 dev {over} metric 207" in there
    bridge = Interface(over, "bridge", MARK, addresses=ETH0.addresses, gateway="10.83.0.1", metric=207)
    back = attachment.detached(lab(), "host1", MARK, names(Interface("eth0", master=over), bridge))
    assert "route replace default via 10.83.0.1 dev eth0 metric 207" in back


def test_a_default_route_is_its_interfaces() -> None:
    entry = {"ifname": "eth0"}
    routes = {"eth0": {"dst": "default", "gateway": "10.83.0.1", "dev": "eth0", "metric": 207}}
    seen = attachment._interface(entry, routes)
    assert (seen.gateway, seen.metric) == ("10.83.0.1", 207)
    assert attachment._interface({"ifname": "eth1"}, routes).gateway == ""


def test_the_mark_of_an_address_is_read_from_its_label() -> None:
    listed = [
        {"family": "inet", "local": "10.83.0.5", "prefixlen": 24, "label": "br0"},
        {"family": "inet", "local": "10.83.0.9", "prefixlen": 24, "label": "br0:lim"},
        {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
    ]
    seen = attachment._interface({"ifname": "br0", "addr_info": listed}, {})
    assert seen.addresses == ("10.83.0.5/24", "10.83.0.9/24") and seen.given == ("10.83.0.9/24",)
    # A name that leaves no room for it: its addresses cannot be marked, and none is taken for ours.
    unmarked = [{"family": "inet", "local": "10.83.0.9", "prefixlen": 24, "label": "enx0123456789ab"}]
    assert attachment._interface({"ifname": "enx0123456789ab", "addr_info": unmarked}, {}).given == ()


class OneAnswer:
    """A host that takes every way over *dev*."""

    name = "host1"

    def __init__(self, dev: str) -> None:
        self.dev, self.asked = dev, list[list[str]]()

    async def run(self, argv: list[str], *, check: bool = True) -> Completed:
        self.asked.append(argv)
        return Completed(tuple(argv), 0, json.dumps([{"dst": argv[-1], "dev": self.dev}]).encode(), b"", 0.0)


async def test_an_interface_in_a_bridge_that_takes_the_way_is_an_error() -> None:
    """As Alpine's network is after a restart whose stop knew the new configuration only."""
    doubled = Interface("eth0", master="br0", addresses=("10.83.0.1/24",))
    has = names(doubled, Interface("br0", kind="bridge", addresses=("10.83.0.1/24",)))
    broken, working = OneAnswer("eth0"), OneAnswer("br0")
    with pytest.raises(StateError, match=r"eth0 on host1 is in bridge br0 and has the address 10\.83\.0\.1") as caught:
        await attachment.check_routes(cast("Host", broken), lab(), has)
    assert "ip addr flush dev eth0" in caught.value.hint
    assert broken.asked == [["ip", "-json", "-4", "route", "get", "10.83.0.2"]], "not its own address"
    await attachment.check_routes(cast("Host", working), lab(), has)


async def test_who_has_its_address_on_the_bridge_alone_is_not_asked() -> None:
    silent = OneAnswer("eth0")
    bridge = Interface("br0", kind="bridge", addresses=("10.83.0.5/24",))
    await attachment.check_routes(cast("Host", silent), lab(), names(Interface("eth0", master="br0"), bridge))
    await attachment.check_routes(cast("Host", silent), lab(), names(ETH0))
    assert silent.asked == []


async def test_an_ip_that_is_busyboxs_is_said() -> None:
    class Alpine:
        name = "host1"

        async def run(self, argv: list[str]) -> Completed:
            raise CommandError(
                argv, 1, "BusyBox v1.37.0 () multi-call binary.\n\nUsage: ip [OPTIONS]\nip rule [list]\n"
            )

    with pytest.raises(MachineError, match="ip on host1 is busybox's, which speaks no JSON") as caught:
        await attachment.interfaces(cast("Host", Alpine()))
    assert "apk add iproute2" in caught.value.hint
