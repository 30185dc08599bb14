"""Links of a lab as fast as the lab file says, measured by a TCP stream between two hosts."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator

import pytest

from limosa import spec
from limosa.errors import MachineError
from limosa.lab import Lab
from tests import namespaces

pytestmark = pytest.mark.system
RATE_MBIT_S = 50

SHAPED = """
name: shaped
networks:
  lan: {{subnet: 10.98.1.0/24, {how}}}
hosts:
  host1: {{}}
  host2: {{}}
"""

RECEIVE = """
import socket, sys, time
connection, _ = socket.create_server((sys.argv[1], 5001)).accept()
connection.recv(1 << 20)
settled = time.monotonic() + 0.5      # slow start and the bucket's first burst are over
while time.monotonic() < settled:
    connection.recv(1 << 20)
for _ in range(int(sys.argv[2])):
    begun, total = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < 0.5:
        total += len(connection.recv(1 << 20))
    print(total * 8, passed)
"""

SEND = """
import socket, sys, time
for _ in range(100):
    try:
        connection = socket.create_connection((sys.argv[1], 5001))
        break
    except OSError:
        time.sleep(0.05)
try:
    while True:
        connection.sendall(bytes(1 << 16))
except OSError:
    pass
"""


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ll") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        yield folder


async def mbit_per_s(lab: Lab, source: str, target: str) -> tuple[float, float]:
    """TCP payload over eight half seconds, in Mbit/s: all together, and the fastest of them.

    A shaper's promise has two sides. More than the rate never passes, whatever the machine does; the rate itself
    passes while the machine runs. A virtual machine that its own host holds up for longer than the bucket lasts
    (here 10 ms) loses what it could have sent meanwhile, so the second side is seen in the fastest half second.
    """
    address = lab.spec.hosts[target].addresses["lan"]
    python = "/usr/bin/python3"
    receiving = asyncio.create_task(lab.host(target).run([python, "-c", RECEIVE, address, "8"], timeout_s=60))
    await lab.host(source).run([python, "-c", SEND, address], timeout_s=60, check=False)
    windows = [tuple(map(float, line.split())) for line in (await receiving).text.splitlines()]
    assert len(windows) == 8
    fastest = max(bits / seconds for bits, seconds in windows)
    return sum(bits for bits, _ in windows) / sum(seconds for _, seconds in windows) / 1e6, fastest / 1e6


@pytest.mark.alone
@pytest.mark.parametrize("rootless", [False, True])
async def test_a_rate_is_kept_both_ways(state: str, rootless: bool) -> None:
    namespaces.required(rootless=rootless)
    lab_spec = spec.loads(SHAPED.format(how=f"rate: {RATE_MBIT_S} Mbit/s"))
    async with Lab.open(lab_spec, ephemeral=True, rootless=rootless) as lab:
        await lab.up()
        for source, target in (("host1", "host2"), ("host2", "host1")):
            mean, fastest = await mbit_per_s(lab, source, target)
            assert mean <= 1.05 * RATE_MBIT_S, f"{source} to {target}: {mean:.1f} Mbit/s in the mean"
            assert fastest >= 0.9 * RATE_MBIT_S, f"{source} to {target}: {fastest:.1f} Mbit/s at the fastest"


async def test_a_delay_is_kept_or_said_to_be_impossible(state: str) -> None:
    async with Lab.open(spec.loads(SHAPED.format(how="delay: 20 ms")), ephemeral=True) as lab:
        try:
            await lab.up()
        except MachineError as error:
            assert error.message == "this kernel cannot delay packets (it has no netem)"
            assert "delay" in error.hint and "sch_netem" in error.hint
            return
        ask = ["ping", "-c", "5", "-i", "0.2", lab.spec.hosts["host2"].addresses["lan"]]
        said = (await lab.host("host1").run(ask)).text.splitlines()[-1]
        # Out and back, and on each host's link in each direction: four delays of 20 ms.
        assert 76 <= float(said.split("=")[1].split("/")[0]) <= 100, said
