"""A name is resolved once: what a move looks up of its guest and its hosts, counted while one really moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limosa import spec
from limosa.errors import MachineError
from limosa.lab import Lab
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.record import LabDirectory

pytestmark = pytest.mark.system

TWO = """
name: looked
hosts: {host1: {}, host2: {}}
guests: {guest1: {host: host1, image: bare, accel: tcg}, guest2: {host: host1, image: bare, accel: tcg}}
"""

Count = Counter[tuple[str, ...]]


def counting(count: Count, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """*method*, with each call of it counted by the names that it is given."""

    def counted(self: object, *names: str) -> object:
        count[(name, *names)] += 1
        return method(self, *names)

    return counted


async def test_a_move_looks_up_its_guest_and_its_hosts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    count: Count = Counter()
    async with Lab.open(spec.loads(TWO), ephemeral=True) as lab:
        try:
            await lab.up(start=False)
        except MachineError as error:
            pytest.skip(f"this machine makes no lab: {error}")
        await lab.start("guest1")
        with monkeypatch.context() as patch:
            for owner, name in ((LabDirectory, "guest_record"), (LabHosts, "reload"), (LabHosts, "host")):
                patch.setattr(owner, name, counting(count, name, getattr(owner, name)))
            await lab.migrate("guest1", "host2")
        assert count == {("reload",): 1, ("guest_record", "guest1"): 1, ("host", "host1"): 1, ("host", "host2"): 1}
        assert await lab.guests.where("guest1") == "host2"
