"""What of the networks between hosts would spoil a migration is seen before: real bridges, real links.

The hosts are namespaces; the lab that is asked about takes them for machines of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from limosa import spec
from limosa.hosts.host import Host
from limosa.lab import Lab
from limosa.network import attachment, echo, guard, obstacles
from tests import namespaces

pytestmark = pytest.mark.system

BELOW = "name: wires\nhosts: {host1: {}, host2: {}}\n"
MACHINES = """
name: machines
networks: {lan: {subnet: 10.77.1.0/24}}
storage: {shared: {path: /srv/vms}}
hosts:
  host1: {kind: ssh, machine: one, links: {lan: LINK}}
  host2: {kind: ssh, machine: two, links: {lan: LINK}}
guests: {guest1: {host: host1}}
"""


@pytest.fixture(params=[False, True], ids=["root", "rootless"])
async def below(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    namespaces.required(rootless=request.param)
    async with Lab.open(spec.loads(BELOW), ephemeral=True, rootless=request.param) as lab:
        await lab.up()
        yield lab


def hosts(below: Lab) -> Mapping[str, Host]:
    return {name: below.host(name) for name in ("host1", "host2")}


@pytest.mark.parametrize("link", ["br0", "eth0"])
async def test_nothing_is_said_of_networks_that_are_right(below: Lab, link: str) -> None:
    assert await obstacles.remarks(spec.loads(MACHINES.replace("LINK", link)), hosts(below)) == []


@pytest.mark.parametrize(("delay", "silence"), [("1500", "30 s"), ("200", "4 s")])
async def test_a_bridge_with_a_spanning_tree_is_told(below: Lab, delay: str, silence: str) -> None:
    how = ["ip", "link", "set", "br0", "type", "bridge", "stp_state", "1", "forward_delay", delay]
    await below.host("host2").run(how)
    (told,) = await obstacles.remarks(spec.loads(MACHINES.replace("LINK", "br0")), {"host2": below.host("host2")})
    assert told.startswith("host2: ") and f"silent for {silence}" in told
    assert "ip link set br0 type bridge stp_state 0" in told


@pytest.mark.parametrize("size", [1400, 1280])
async def test_a_way_that_loses_large_packets_is_told(below: Lab, size: int) -> None:
    """As a switch does whose frames are smaller than the hosts': it says nothing."""
    await below.host("client").run(["ip", "link", "set", "host2.0", "mtu", str(size)])
    (told,) = await obstacles.remarks(spec.loads(MACHINES.replace("LINK", "br0")), hosts(below))
    passes = int(told.partition("those of ")[2].partition(" ")[0])
    assert size - echo.STEP_BYTES <= passes <= size
    assert "1500 bytes are lost between host1 and host2" in told
    assert f"mtu {passes} for br0 of host1 and br0 of host2" in told


async def test_hosts_of_unlike_sizes_are_asked_for_what_they_send(below: Lab) -> None:
    """TCP sends no more than the smaller of both takes."""
    for host, link in (("client", "host2.0"), ("host2", "eth0"), ("host2", "br0")):
        await below.host(host).run(["ip", "link", "set", link, "mtu", "1400"])
    assert await obstacles.remarks(spec.loads(MACHINES.replace("LINK", "br0")), hosts(below)) == []


async def test_who_answers_no_echo_is_not_known(below: Lab) -> None:
    lab = spec.loads(MACHINES.replace("LINK", "br0"))
    await below.host("client").run(["ip", "link", "set", "host2.0", "down"])
    seen = {name: await attachment.interfaces(host) for name, host in hosts(below).items()}
    (finding,) = await obstacles.path_sizes(lab, hosts(below), seen)
    assert finding.ok and not finding.required and "not known" in finding.detail


def test_what_a_stranger_could_do_is_said_where_nothing_is_done_against_it() -> None:
    text = MACHINES.replace("LINK", "br0")
    assert "is encrypted" in obstacles.strangers(spec.loads(text), "host1").detail
    machines = obstacles.strangers(spec.loads(f"{text}\nmigration: {{tls: 'off'}}\n"), "host1")
    assert not machines.ok and not machines.required
    assert f"{guard.PORTS.start} to {guard.PORTS.stop - 1}" in machines.detail and "tls: on" in machines.fix
    assert obstacles.strangers(spec.loads(BELOW), "host1").ok
