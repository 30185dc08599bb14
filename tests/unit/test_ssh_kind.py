"""The machines over SSH of one lab: who is logged in to, and how many at a time."""

from __future__ import annotations

import asyncio

import pytest

from limosa.errors import UnreachableError
from limosa.hosts.kind import LOGINS, HostState
from limosa.hosts.ssh import way_in
from limosa.hosts.ssh.kind import SshKind
from limosa.hosts.ssh.way_in import Machine
from limosa.spec import resolved


class Logins:
    """Machines of which none answers, and what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at_once = self.most = 0

    async def log_in(self, name: str, machine: Machine) -> None:
        assert machine.host == name
        self.asked.append(name)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        for _ in range(10):
            await asyncio.sleep(0)
        self.at_once -= 1
        raise UnreachableError(f"{name} does not answer")


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> Logins:
    made = Logins()
    monkeypatch.setattr(way_in, "log_in", made.log_in)
    return made


def kind(count: int) -> SshKind:
    hosts = {name: resolved.Host(name, kind="ssh", machine=name) for name in (f"host{n}" for n in range(count))}
    return SshKind(resolved.Lab("many", {}, {}, hosts, {}), "this test")


async def test_two_machines_of_two_hundred_are_logged_in_to(logins: Logins) -> None:
    found = await kind(200).find(["host7", "host150"])
    assert {name: seen.state for name, seen in found.items()} == dict.fromkeys(
        ("host7", "host150"), HostState.NO_ANSWER
    )
    assert sorted(logins.asked) == ["host150", "host7"]


async def test_all_are_asked_at_once_and_few_logged_in_to_at_a_time(logins: Logins) -> None:
    machines = kind(200)
    found = await machines.find(list(map("host{}".format, range(200))))
    assert len(found) == len(logins.asked) == 200
    assert logins.most == LOGINS


async def test_one_that_did_not_answer_is_not_waited_for_again(logins: Logins) -> None:
    machines = kind(1)
    for _ in range(3):
        assert (await machines.find(["host0"]))["host0"].state is HostState.NO_ANSWER
    assert logins.asked == ["host0"]
