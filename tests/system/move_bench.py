"""What the migration tests share: a lab of bare guests, the real command line, and a witness for the guest's memory."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import move_driver
import pytest

from limosa.errors import LimosaError
from limosa.events import Events
from limosa.guest.bare import COMMAND_STATUS, COMMAND_VERIFY, Fault, Lost, Report, SerialReader, Status, Verified, parse
from limosa.hosts.host import Host
from limosa.hosts.namespaces.first_process import Keeper
from limosa.hosts.namespaces.host import NamespaceHost
from limosa.lab.record import LabDirectory
from limosa.qemu import guest_process, launches
from limosa.qemu.launches import runtime_directory
from limosa.userfaultfd import by_call
from tests import namespaces

GUEST = "bare"
LIMOSA = (sys.executable, "-W", "error", "-m", "limosa")
AMPLE = ("--downtime-limit", "5 s")
"""The guest dirties all of its memory in every round, so a move ends only when the pause may hold all of it."""
ENDLESS = ("--downtime-limit", "1 ms", "--max-bandwidth", "20 MiB/s")
"""Far less than the guest dirties in every round, so that the step ``sending`` does not end by itself."""
POST_COPY = ("--method", "post-copy", "--downtime-limit", "1 ms", "--set", "max-postcopy-bandwidth=8 MiB/s")
"""It takes some seconds, in which what a test does to it happens."""
NEEDED = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]
"""The marks of tests that move a bare guest by the machine's QEMU."""
TAKES_USERFAULTFD = pytest.mark.skipif(bool(by_call()), reason="userfaultfd: not permitted to this user")
NEEDED_BY_POST_COPY = [
    *NEEDED,
    TAKES_USERFAULTFD,
]
SLOW_LINK = """\
name: {name}
networks: {{lan: {{rate: 200 Mbit/s}}}}
hosts: {{host1: {{}}, host2: {{}}}}
guests: {{bare: {{host: host1, image: bare, memory: 64 MiB, accel: tcg}}}}
"""
"""A lab in which a move takes some seconds."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One command of limosa that ended."""

    returncode: int
    out: str
    err: str
    seconds: float

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(slots=True)
class Bench:
    """A lab that is up, driven from outside."""

    name: str
    environment: dict[str, str]
    directory: LabDirectory

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that works on this lab."""
        argv = [*LIMOSA, *words, "--lab", self.name]
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=self.environment)

    @contextmanager
    def beside(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that works on the lab meanwhile; it is over at the end, whatever happened."""
        with self.begin(*words) as child:
            try:
                yield child
            finally:
                child.kill()

    def run(self, *words: str, expect: int = 0) -> Ran:
        """Run a command to its end; its exit code must be *expect*."""
        started = time.monotonic()
        with self.begin(*words) as child:
            try:
                out, err = child.communicate(timeout=120)
            finally:
                child.kill()
        ran = Ran(child.returncode, out, err, time.monotonic() - started)
        assert ran.returncode == expect, (words, ran)
        return ran

    def migrate(self, target: str, *words: str, expect: int = 0) -> Ran:
        return self.run("migrate", GUEST, target, "--json", *(words or AMPLE), expect=expect)

    def findings(self, target: str, *words: str, check: str, expect: int = 0) -> list[str]:
        """What one check says of a move that is only planned."""
        said = self.run("migrate", GUEST, target, "--plan", "--json", *words, expect=expect).result["findings"]
        return [finding["sentence"] for finding in said if finding["check"] == check]

    def attempt(self, target: str, action: str, when: str, *words: str, stall_s: float | None = None) -> Ran:
        """Migrate with *action* at the step *when* (see ``move_driver``)."""
        limits = words or (ENDLESS if when == "sending" else AMPLE)
        words = ("migrate", GUEST, target, "--json", *limits, "--lab", self.name)
        environment = dict(self.environment)
        if stall_s is not None:
            environment["LIMOSA_TEST_STALL_S"] = str(stall_s)
        started = time.monotonic()
        argv = [sys.executable, "-W", "error", str(move_driver.__file__), action, when, "--", *words]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=100)
        return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def status(self) -> dict[str, Any]:
        """The guest as ``limosa status`` tells it."""
        guests: list[dict[str, Any]] = self.run("status", "--json").result["guests"]
        return guests[0]

    def host(self, name: str) -> NamespaceHost:
        record = self.directory.record()
        assert record is not None
        known = namespaces.processes(record)
        return NamespaceHost(name, Keeper(known.hosts[name], name, self.directory.mark), known.rootless, Events())

    def states(self) -> dict[str, str]:
        """The run state of every QEMU of the guest, by its host: what QEMU itself answers."""
        return asyncio.run(self._states())

    async def _states(self) -> dict[str, str]:
        found = {}
        for name in ("host1", "host2"):
            with suppress(LimosaError):
                for running in await launches.look(self.host(name), GUEST):
                    qemu = await guest_process.attach(self.host(name), GUEST, running, Events())
                    found[name] = await qemu.status()
                    await qemu.close()
        return {name: state for name, state in found.items() if state != "gone"}

    def processes(self) -> dict[str, int]:
        """How many QEMU processes there are on each host that is on, whatever the product thinks of them."""
        count = {}
        for name in ("host1", "host2"):
            with suppress(OSError):
                count[name] = len(move_driver.qemus(self.host(name).keeper.pid))
        return count

    def pid(self, host: str) -> int:
        """The pid, as seen from here, of the guest's QEMU on *host*."""
        (pid,) = move_driver.qemus(self.host(host).keeper.pid)
        return pid

    def check_pages(self, host: str) -> int:
        """Ask the guest on *host* to look at every page; all must be right, and it must go on. Return the pass."""
        return asyncio.run(check_pages(self.host(host)))

    def assert_once(self, host: str) -> None:
        """The guest is on *host* alone, every page right; one QEMU process; nothing left open in the journal."""
        assert self.states() == {host: "running"}
        assert self.processes().get(host) == 1
        assert sum(self.processes().values()) == 1
        self.check_pages(host)
        status = self.status()
        assert (status["state"], status["host"], status["unfinished"]) == ("running", host, "")

    def reports(self) -> dict[str, list[Report]]:
        """All that the guest has printed, by the name of the log of the host where it did."""
        logs = self.directory.log.glob(f"{GUEST}@*.console.log")
        return {log.name: list(parse(log.read_text(errors="replace"))) for log in logs}

    def place(self) -> str:
        """The host where the guest runs; it must be exactly one."""
        states = self.states()
        running = [host for host, state in states.items() if state == "running"]
        assert len(running) == 1, states
        return running[0]

    def ends(self) -> tuple[str, str]:
        """The host where the guest runs, and the other one, where it goes."""
        source = self.place()
        return source, "host2" if source == "host1" else "host1"


def cut(lab: Bench, host: str) -> str:
    """The action that cuts *host* off at once: a command of limosa's takes longer than what is left of a move on a busy
    machine."""
    return f"run:{link(lab, host, 'down')}"


def restore(lab: Bench, host: str) -> str:
    return f"run:{link(lab, host, 'up')}"


def link(lab: Bench, host: str, state: str) -> str:
    return f"nsenter -t {lab.host(host).keeper.pid} -n ip link set eth0 {state}"


class Attempt:
    """A move that has come as far as it was to be disturbed: which way it went, and what came of it."""

    def __init__(
        self,
        lab: Bench,
        action: Callable[[str, str], str],
        when: str,
        words: tuple[str, ...] = POST_COPY,
        stall_s: float | None = None,
    ) -> None:
        """*action*: of source and target. A guest that a busy machine kept from writing arrives before post-copy."""
        for _ in range(8):
            lab.run("up")
            self.source, self.target = lab.ends()
            self._before = lab.reports()
            done = action(self.source, self.target)
            self.ran = lab.attempt(self.target, done, when, *words, stall_s=stall_s)
            if move_driver.NEVER not in self.ran.err:
                return
            lab.assert_once(self.target)
        raise AssertionError(f"{when} was never reached")

    def reports(self, lab: Bench) -> list[Report]:
        """What the guest has printed since it began."""
        found = lab.reports().items()
        return [report for log, reports in found for report in reports[len(self._before.get(log, ())) :]]


async def check_pages(host: Host) -> int:
    """Ask the bare guest on *host* to look at every page; all must be right, and it must go on. Return the pass."""
    connection = await host.connect(f"{runtime_directory(host, GUEST)}/serial.sock")
    reader, loop, said = SerialReader(), asyncio.get_running_loop(), list[Report]()

    async def ask(command: bytes, kind: type[Report]) -> Any:
        await loop.sock_sendall(connection, command)
        while True:
            data = await loop.sock_recv(connection, 65536)
            assert data, "QEMU went away"
            new = reader.feed(data)
            said.extend(new)
            for report in new:
                if isinstance(report, kind):
                    return report

    with connection:
        # The console may be in the middle of a line; what comes first ends it.
        await loop.sock_sendall(connection, COMMAND_STATUS)
        async with asyncio.timeout(30):
            verified: Verified = await ask(COMMAND_VERIFY, Verified)
            first: Status = await ask(COMMAND_STATUS, Status)
            later = first
            while later.progress == first.progress:
                later = await ask(COMMAND_STATUS, Status)
    assert verified.pages > 0 and verified.lost == 0 and verified.lost_total == 0, verified
    assert not [report for report in said if isinstance(report, Lost | Fault)]
    return verified.number


@contextmanager
def bench(folder: Path, text: str, name: str, *, guests: bool = True) -> Iterator[Bench]:
    """A lab made from *text*, up (without *guests*: the hosts only); taken down at the end, whatever happened."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder), "LIMOSA_LAB": ""}
    file = folder / f"{name}.yaml"
    file.write_text(text)
    made = Bench(name, environment, LabDirectory(folder / "limosa" / "labs" / name))
    try:
        words = ["up", str(file), *([] if guests else ["--no-start"])]
        subprocess.run([*LIMOSA, *words], env=environment, check=True, capture_output=True, text=True)
        yield made
    finally:
        subprocess.run([*LIMOSA, "down", "--lab", name], env=environment, check=True, capture_output=True, text=True)
