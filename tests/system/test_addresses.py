"""An address that somebody else on the network has is found before the lab gives it to anybody.

The machine is a network namespace of the test's own, with a bridge on which others are.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

PREAMBLE = """
import asyncio, subprocess, sys
from limosa import spec
from limosa.errors import StateError
from limosa.lab import Lab, guest_access

TEXT = '''
name: occupied
networks: {lan: {subnet: 10.90.0.0/24, client: 10.90.0.10, bridge: lab0}}
hosts: {host1: {}}
guests: {guest1: {host: host1, memory: 128 MiB, address: 10.90.0.101}}
'''
SOMEBODY = "02:00:5e:00:00:01"

def ip(words):
    subprocess.run(["ip", *words.split()], check=True)

def somebody(address, mac=SOMEBODY):
    "Another machine on the bridge."
    ip("netns add other")
    ip(f"link add other type veth peer name eth0 address {mac} netns other")
    ip("link set other master lab0 up")
    ip("-n other link set eth0 up")
    ip(f"-n other addr add {address}/24 dev eth0")

def nobody():
    ip("link del other")  # the kernel clears the namespace away later
    ip("netns del other")

async def refused(work):
    try:
        await work
    except StateError as error:
        return error
    raise AssertionError("nothing was said")

def opened(text=TEXT):
    return Lab.open(spec.loads(text), ephemeral=True, rootless=ROOTLESS)
"""

GUEST = """
async def main():
    async with opened() as lab:
        await lab.up(start=False)
        guest = lab.guest("guest1")
        await guest_access.check_address(lab._hosts, guest)
        somebody("10.90.0.101")
        error = await refused(lab.start("guest1", wait=False))
        assert "10.90.0.101 is in use already" in error.message and SOMEBODY in error.message, error.message
        assert "`address` of guest1" in error.hint, error.hint
        nobody()
        somebody("10.90.0.101", guest.mac)
        await guest_access.check_address(lab._hosts, guest)
        nobody()
"""

CLIENT = """
async def main():
    for address, key in (("10.90.0.10", "`client` of lan"), ("10.90.0.11", "`addresses` of host1")):
        somebody(address)
        async with opened() as lab:
            error = await refused(lab.up(start=False))
            assert address in error.message and key in error.hint, (error.message, error.hint)
            assert lab._hosts.client is None, "nothing stays that would cut them off"
        nobody()
    async with opened() as lab:
        assert await lab.up(start=False)
"""

NO_ANSWER = """
async def main():
    told = []
    async with opened() as lab:
        lab.events.add(lambda event: told.append(getattr(event, "text", "")))
        await lab.up(start=False)
        await lab.host("client").run(["ip", "link", "del", "lan"])
        await guest_access.check_address(lab._hosts, lab.guest("guest1"))
    assert any("whether somebody has 10.90.0.101 already is not known" in line for line in told), told
"""

RUN = """
ip("link set lo up")
ip("link add lab0 type bridge stp_state 0 forward_delay 0")
ip("link set lab0 up")
asyncio.run(main())
"""


@pytest.mark.parametrize("rootless", [False, True])
@pytest.mark.parametrize("scene", [GUEST, CLIENT, NO_ANSWER], ids=["guest", "client-and-hosts", "cannot-ask"])
def test_an_address_that_somebody_has(tmp_path: Path, scene: str, rootless: bool) -> None:
    program = tmp_path / "scene.py"
    program.write_text(f"{PREAMBLE}\nROOTLESS = {rootless}\n{scene}\n{RUN}")
    # A mount namespace with an empty /run/netns, so that `ip netns` makes nothing that others see.
    inside = f"mount -t tmpfs tmpfs /run && exec {sys.executable} {program}"
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--net", "--mount", "sh", "-ec", inside],
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "unshare failed" in done.stderr:
        pytest.skip(f"no network namespace of one's own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
