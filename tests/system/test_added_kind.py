"""A kind of host that is added by two rows and a package is as good as any other: a guest is moved on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import namespaces

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]
ROOT = Path(__file__).parents[2]
LAB = """
name: added
networks: {ways: {subnet: 10.99.7.0/24, purpose: migration}}
storage: {disks: {path: disks}}
hosts: {host1: {kind: rooms}, host2: {kind: rooms}}
guests: {web: {image: bare, host: host1, memory: 32 MiB, accel: tcg}}
"""
NETWORK = """
ip link set lo up
ip link add eth0 type bridge
ip addr add 10.99.7.2/24 dev eth0
ip link set eth0 up
exec "$@"
"""
MOVE = """
import asyncio, sys
from limosa.lab import Lab
from tests import rooms

async def main():
    rooms.add()
    async with Lab.open("added.yaml") as lab:
        assert await lab.up() == ["host host1", "host host2", "guest web"], "the client is this machine itself"
    async with Lab.open("added") as lab:
        assert list(lab.record.kinds) == [rooms.NAME]
        await lab.migrate("web", "host2")
        status = await lab.status()
        assert [(guest.state, guest.host) for guest in status.guests] == [("running", "host2")], status
    async with Lab.open("added") as lab:
        await lab.hosts.power_off("host1")
        assert [host.state for host in (await lab.status()).hosts] == ["off", "on"]
        await lab.hosts.restore("host1")
        await lab.migrate("web", "host1")
        assert await lab.down()
    for module in ("asyncssh", "limosa.hosts.ssh.kind", "limosa.hosts.containers.kind"):
        assert module not in sys.modules, module

asyncio.run(main())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path, as it is part of the names of sockets."""
    with tempfile.TemporaryDirectory(prefix="la") as folder:
        yield Path(folder)


def test_a_guest_moves_on_a_kind_that_was_added(home: Path) -> None:
    namespaces.required(rootless=os.geteuid() != 0)
    (home / "added.yaml").write_text(LAB)
    (home / "disks").mkdir()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    argv = ["unshare", *user, "--net", "sh", "-ec", NETWORK, "sh", sys.executable, "-W", "error", "-c", MOVE]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src"), *filter(None, sys.path)])
    environment = os.environ | {"XDG_STATE_HOME": str(home / "state"), "PYTHONPATH": paths}
    done = subprocess.run(argv, cwd=home, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not (home / "state/limosa/labs/added").exists()
