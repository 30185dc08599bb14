"""Nobody but the lab's hosts reaches the ports on which guests arrive, whatever way a stranger takes."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from limosa import spec
from limosa.hosts.host import Host
from limosa.lab import Lab
from limosa.network import guard
from tests import namespaces

pytestmark = pytest.mark.system

TWO_NETWORKS = """
name: strangers
networks: {lan: {}, mig: {purpose: migration}}
hosts: {host1: {}, host2: {}}
"""
ONE_NETWORK = """
name: strangers
hosts: {host1: {}, host2: {}}
"""
PORT, PLAIN_PORT = guard.PORTS[len(guard.PORTS) // 2], 2222

LISTEN = """
import socket, sys
address, *ports = sys.argv[1:]
listening = [socket.create_server((address, int(port))) for port in ports]
print("listening", flush=True)
while True:
    for one in listening:
        one.settimeout(0.01)
        try:
            one.accept()[0].close()
        except TimeoutError:
            pass
"""
"""As QEMU does: bound to the host's address in the migration network."""

CONNECT = """
import socket, sys
address, port, source = sys.argv[1:]
try:
    socket.create_connection((address, int(port)), 1, source_address=(source, 0) if source else None).close()
except OSError as error:
    sys.exit(str(error))
"""

GUEST = """
set -e
sysctl -q -w net.ipv4.ip_forward=1 || echo 1 >/proc/sys/net/ipv4/ip_forward
ip link add tap9 type veth peer name guest
ip link set tap9 master br0 up
unshare --net sleep 600 </dev/null >/dev/null 2>&1 &
while [ "$(readlink /proc/$!/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link set guest netns $!
nsenter --net --target $! ip addr add "$1" dev guest
nsenter --net --target $! ip link set guest up
echo $!
"""
"""What a guest is on its host: something beside it on the bridge. Its host forwards, as machines with containers do."""


@asynccontextmanager
async def lab_of(text: str, rootless: bool) -> AsyncIterator[Lab]:
    namespaces.required(rootless=rootless)
    async with Lab.open(spec.loads(text), ephemeral=True, rootless=rootless) as lab:
        await lab.up()
        yield lab


async def listen(lab: Lab) -> str:
    """Have something listen on host2 as a target does; its address."""
    address, host = lab.hosts.address("host2", lab.spec.migration_network.name), lab.host("host2")
    log = f"{host.runtime_directory}/listen.log"
    await host.spawn([sys.executable, "-c", LISTEN, address, str(PORT), str(PLAIN_PORT)], log=log)
    await host.run(["sh", "-c", f"until grep -q listening {log}; do sleep 0.01; done"], timeout_s=20)
    return address


async def reached(host: Host, address: str, port: int, inside: str = "", source: str = "") -> bool:
    """Whether *host*, or the guest whose process is *inside* there, gets a connection."""
    words = ["nsenter", "--net", "--target", inside] if inside else []
    argv = [*words, sys.executable, "-c", CONNECT, address, str(port), source]
    return (await host.run(argv, check=False)).returncode == 0


async def guest_on(lab: Lab, host: str) -> str:
    """Something like a guest, 10.77.1.99; its process as its host sees it."""
    made = await lab.host(host).run(["sh", "-c", GUEST, "sh", "10.77.1.99/24"])
    return made.text.splitlines()[-1]


@pytest.mark.parametrize("rootless", [False, True])
@pytest.mark.parametrize("text", [TWO_NETWORKS, ONE_NETWORK], ids=["two-networks", "one-network"])
async def test_only_hosts_reach_a_waiting_target(text: str, rootless: bool) -> None:
    async with lab_of(text, rootless) as lab:
        address = await listen(lab)
        assert await reached(lab.host("host1"), address, PORT), "the source"
        assert not await reached(lab.host("host2"), address, PORT), "whoever else is on the target"
        assert not await reached(lab.host("client"), address, PORT), "whoever else is on the network"
        assert await reached(lab.host("client"), address, PLAIN_PORT), "other ports are as they were"
        await lab.hosts.power_off("host2")
        await lab.hosts.restore("host2")
        address = await listen(lab)
        assert await reached(lab.host("host1"), address, PORT)
        assert not await reached(lab.host("client"), address, PORT), "a host that was switched on again"


@pytest.mark.parametrize("host", ["host1", "host2"])
@pytest.mark.parametrize("text", [TWO_NETWORKS, ONE_NETWORK], ids=["two-networks", "one-network"])
async def test_a_guest_reaches_none(text: str, host: str) -> None:
    """By its own host or by the target, whose address on the guests' network it can use as a gateway's."""
    async with lab_of(text, rootless=False) as lab:
        address = await listen(lab)
        place = lab.host(host)
        guest = await guest_on(lab, host)
        assert (
            await reached(place, lab.hosts.address("host2", "lan"), 22, guest) is False
        )  # nobody listens, and it is there
        for gateway in (
            lab.hosts.address("host1", "lan"),
            lab.hosts.address("host2", "lan"),
            lab.hosts.address("client", "lan"),
        ):
            way = ["ip", "route", "replace", "default", "via", gateway]
            await place.run(["nsenter", "--net", "--target", guest, *way])
            assert not await reached(place, address, PORT, guest), gateway
            dedicated = lab.spec.migration_network.purpose == "migration"
            assert await reached(place, address, PLAIN_PORT, guest) is not dedicated, gateway


@pytest.mark.parametrize("text", [TWO_NETWORKS, ONE_NETWORK], ids=["two-networks", "one-network"])
async def test_without_the_rules_it_would(text: str) -> None:
    """The tests above can fail: what the guard adds is what keeps strangers out."""
    async with lab_of(text, rootless=False) as lab:
        address = await listen(lab)
        await lab.host("host2").run(["ip", "rule", "add", "pref", "0", "lookup", "local"])
        assert await reached(lab.host("client"), address, PORT)
        assert await reached(lab.host("host2"), address, PORT)
        place, guest = lab.host("host2"), await guest_on(lab, "host2")
        way = ["ip", "route", "replace", "default", "via", lab.hosts.address("host2", "lan")]
        await place.run(["nsenter", "--net", "--target", guest, *way])
        assert await reached(place, address, PORT, guest)
