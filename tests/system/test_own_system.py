"""Systems that limosa did not make, through the main job: they boot, let us in, get the agent, move and come back."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa.spec.addresses import mac_address
from tests import own_systems
from tests.limosa_command import Command, Traces

pytestmark = [pytest.mark.system, pytest.mark.slow]

LAB = """\
name: strange
networks: {{lan: {{subnet: 10.77.1.0/24}}}}
hosts: {{host1: {{}}, host2: {{}}}}
guests:
  guest1: {{host: host1, memory: 192 MiB, accel: tcg, address: 10.77.1.101, image: {image}, disk: {{overlay: true}}}}
"""


@pytest.fixture
def home() -> Iterator[Command]:
    folder = Path(tempfile.mkdtemp(prefix="limosa-own-"))
    traces = Traces(folder)
    yield Command(folder)
    traces.assert_gone(within_s=0)
    shutil.rmtree(folder)


async def test_a_stranger_goes_through_the_main_job(home: Command) -> None:
    """Its SSH host key is unknown and believed once; the agent is put into its memory; all clocks work."""
    file = home.home / "strange.yaml"
    mac = mac_address("strange", "guest1", set())
    file.write_text(LAB.format(image=json.dumps(await own_systems.stranger(home.home, mac))))
    home.ok("up", str(file), timeout_s=400)
    try:
        assert home.ok("ssh", "guest1", "ls /usr/bin/limosa-agent 2>&1 || true").text.count("No such file") == 1
        home.ok("migrate", "guest1", "host2")
        assert home.ok("ssh", "guest1", "hostname").text.strip() == "stranger"
    finally:
        home.ok("down", "--lab", "strange")
