"""A link that goes dark while the source has stopped the guest and sends the rest: QEMU's main loop stands still then.

The link is slow enough that the rest takes seconds, and is cut in the middle of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from move_bench import GUEST, NEEDED, Bench, bench

from limosa.hosts.namespaces.host import NamespaceHost

LAB = """\
name: dark
networks: {lan: {subnet: 10.79.0.0/24, rate: 50 Mbit/s}}
hosts: {host1: {}, host2: {}}
guests: {bare: {host: host1, image: bare, memory: 64 MiB, accel: tcg}}
"""
pytestmark = NEEDED


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("d"), LAB, "dark") as made:
        yield made


@pytest.fixture
def at(lab: Bench) -> Iterator[tuple[str, str]]:
    """Where the guest is and where it goes; the link is there again afterwards."""
    lab.run("up")
    source, target = lab.ends()
    yield source, target
    lab.run("host", "restore", target)


def cut(lab: Bench, target: str) -> str:
    return f"run:{sys.executable} -m limosa host cut {target} --lab {lab.name}"


def setting(host: NamespaceHost, name: str, value: int = 0) -> int:
    """A TCP setting of a host, changed first when *value* is given."""
    script = f"cd /proc/sys/net/ipv4 && {{ [ {value} = 0 ] || echo {value} >{name}; }} && cat {name}"
    done = subprocess.run(host.interactive(["sh", "-c", script]), capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.fixture
def endless(lab: Bench, at: tuple[str, str]) -> Iterator[None]:
    """TCP itself does not give up, as on a machine that is not the lab's own."""
    host = lab.host(at[0])
    before = setting(host, "tcp_retries2")
    setting(host, "tcp_retries2", 15)
    yield
    setting(host, "tcp_retries2", before)


def test_while_the_command_lives(lab: Bench, at: tuple[str, str], endless: None) -> None:
    source, target = at
    ran = lab.attempt(target, cut(lab, target), "stopped", stall_s=1)
    assert ran.returncode == 6 and f"nothing went over the link to {target}" in ran.result["error"], ran
    lab.assert_once(source)


@pytest.mark.parametrize(
    "words", [("start", GUEST), pytest.param(("stop", GUEST, "--force", "--host"), marks=pytest.mark.slow)]
)
def test_when_the_command_was_killed(lab: Bench, at: tuple[str, str], endless: None, words: tuple[str, ...]) -> None:
    """The next command frees the source; so does a person's decision."""
    source, target = at
    assert lab.attempt(target, f"{cut(lab, target)} ; signal:SIGKILL", "stopped").returncode == -9
    told = lab.run(*words, *([target] if words[-1] == "--host" else [])).err
    assert words[0] == "stop" or f"was undone: {GUEST} is on {source}" in told
    lab.assert_once(source)


def test_settings_of_the_labs_own_hosts(lab: Bench, at: tuple[str, str]) -> None:
    for name in at:
        assert setting(lab.host(name), "tcp_retries2") == 6 and setting(lab.host(name), "tcp_syn_retries") == 3


@pytest.mark.slow
def test_slow_link_is_not_dark(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The rest takes longer than QEMU may take to answer anything else, and it answers nobody meanwhile."""
    slow = LAB.replace("50 Mbit/s", "6 Mbit/s").replace("name: dark", "name: slow")
    with bench(tmp_path_factory.mktemp("s"), slow, "slow") as lab:
        ran = lab.migrate("host2", "--downtime-limit", "200 s")
        assert ran.result["qemu_downtime_ms"] > 30_000
        lab.assert_once("host2")


@pytest.mark.slow
def test_by_itself(lab: Bench, at: tuple[str, str]) -> None:
    """Nobody gives a command: TCP gives up, and the guest goes on."""
    source, target = at
    assert lab.attempt(target, f"{cut(lab, target)} ; signal:SIGKILL", "stopped").returncode == -9
    lab.host(source)
    states = lab.states()
    for _ in range(12):  # a look at a source that stands still takes 10 s
        if (states := lab.states()).get(source) == "running":
            break
    assert states.get(source) == "running"
    lab.run("start", GUEST)
    lab.assert_once(source)
