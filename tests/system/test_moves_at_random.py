"""A move of either method, and one party killed, stopped for a while or cut off at any moment of it; or its guest
powers off, or starts anew.

Never two copies that run; lost only where the source of a pre-copy went down before all was sent, or either side of a
post-copy between the target's start and the end; nothing left behind. ``LIMOSA_TEST_SEED`` repeats a campaign, and
``LIMOSA_TEST_MOVES`` sets how many moves it takes.
"""

from __future__ import annotations

import collections
import json
import os
import random
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from move_bench import GUEST, NEEDED, TAKES_USERFAULTFD, Bench, bench
from move_driver import qemus, tell

from limosa.migration import journal
from limosa.migration.phases import AFTER_SWITCH, BETWEEN, Phase

MOVES = int(os.environ.get("LIMOSA_TEST_MOVES", "200"))
LONGEST_S = 4.0
"""A move of this guest takes 2 to 4 s on a quiet machine."""
STOPPED_S = 2.0
LAB = """\
name: chance
networks: {lan: {rate: 400 Mbit/s}}
hosts: {host1: {}, host2: {}}
guests: {bare: {host: host1, image: bare, memory: 64 MiB, accel: tcg}}
"""
METHODS = {
    "pre-copy": ("--downtime-limit", "5 s"),
    "post-copy": ("--method", "post-copy", "--downtime-limit", "1 ms", "--set", "max-postcopy-bandwidth=20 MiB/s"),
}
pytestmark = [
    *NEEDED,
    pytest.mark.slow,
    TAKES_USERFAULTFD,
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("c"), LAB, "chance") as made:
        yield made


class Moved:
    """One move, and what was done to it."""

    def __init__(self, lab: Bench, chance: random.Random) -> None:
        self.lab = lab
        lab.run("up")
        self.source, self.target = lab.ends()
        self.method = chance.choice(sorted(METHODS))
        self.after_s = chance.uniform(0, LONGEST_S)
        self.what = chance.choice(sorted(self.faults()))

    def __str__(self) -> str:
        return f"{self.method} {self.source} → {self.target}, {self.what} after {self.after_s:.3f} s"

    def faults(self) -> dict[str, Callable[[subprocess.Popen[str]], None]]:
        return {
            "controller killed": lambda child: child.kill(),
            "controller stopped": lambda child: self._stopped([child.pid]),
            "source killed": lambda _: self._signalled(self.source, signal.SIGKILL),
            "target killed": lambda _: self._signalled(self.target, signal.SIGKILL),
            "source stopped": lambda _: self._stopped(self._pids(self.source)),
            "target stopped": lambda _: self._stopped(self._pids(self.target)),
            "source's keeper stopped": lambda _: self._stopped([self._keeper(self.source)]),
            "target's keeper stopped": lambda _: self._stopped([self._keeper(self.target)]),
            "guest powers off": lambda _: self._told("power-off"),
            "guest starts anew": lambda _: self._told("start-anew"),
            "source off": lambda _: self._off(self.source),
            "target off": lambda _: self._off(self.target),
            "link cut": lambda _: self._cut(),
            "interrupted": lambda child: child.send_signal(signal.SIGTERM),
        }

    def _keeper(self, host: str) -> int:
        return self.lab.host(host).keeper.pid

    def _pids(self, host: str) -> list[int]:
        return qemus(self._keeper(host))

    def _signalled(self, host: str, number: int) -> None:
        for pid in self._pids(host):
            os.kill(pid, number)

    def _off(self, host: str) -> None:
        os.kill(self._keeper(host), signal.SIGKILL)

    def _stopped(self, pids: list[int]) -> None:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(STOPPED_S if number == signal.SIGSTOP else 0)

    def _told(self, word: str) -> None:
        """Where it is by now, as far as is written down: it may be neither here nor there, and hear nothing."""
        reached = self._reached()
        moved = bool(reached) and reached[-1] in AFTER_SWITCH | {Phase.COMPLETED}
        with suppress(OSError):
            tell(word, self._keeper(self.target if moved else self.source))

    def _cut(self) -> None:
        self.lab.run("host", "cut", self.target)
        time.sleep(STOPPED_S)
        self.lab.run("host", "restore", self.target)

    def done(self) -> str:
        """Move and disturb; what became of the guest: the host where it is, or ``lost``."""
        begun = time.monotonic()
        with self.lab.begin("migrate", GUEST, self.target, "--json", *METHODS[self.method]) as child:
            try:
                time.sleep(max(0.0, begun + self.after_s - time.monotonic()))
                self.faults()[self.what](child)
                out, err = child.communicate(timeout=150)
            finally:
                child.kill()
        assert "Traceback" not in err, (str(self), err)
        states = list(self.lab.states().values())
        assert states.count("running") <= 1 or self._between(), (str(self), states)
        error = json.loads(out).get("error", "") if out.strip() else ""
        told = self.lab.begin("recover", GUEST, "--json")
        with told:
            recovered, _ = told.communicate(timeout=150)
        said = error + json.loads(recovered).get("error", "") if recovered.strip() else error
        if self.what == "guest powers off" and "shut itself down" in said:
            assert sum(self.lab.processes().values()) == 0, str(self)
            self.lab.run("up")
            self.lab.assert_once(self.lab.place())
            return "stopped"
        if "is lost" in said or "went down" in said:
            self._may_be_lost(said)
            self.lab.run("up")
            self.lab.assert_once(self.lab.place())
            return "lost"
        self.lab.run("up")
        place = self.lab.place()
        self.lab.assert_once(place)
        return "target" if place == self.target else "source"

    def _reached(self) -> list[Phase]:
        return [entry.phase for entry in journal.read(self.lab.directory.journal(GUEST))]

    def _between(self) -> bool:
        return any(phase in BETWEEN for phase in self._reached())

    def _may_be_lost(self, said: str) -> None:
        killed = self.what in {"source killed", "source off", "target killed", "target off"}
        assert killed, (str(self), said)
        if self.what.startswith("target"):
            # After it had run: from when post-copy began, or because it had moved.
            reached = self._reached()
            assert self._between() or "ended" in said or Phase.SWITCHED in reached, (str(self), said, reached)


def test_campaign(lab: Bench) -> None:
    seed = os.environ.get("LIMOSA_TEST_SEED") or secrets.token_hex(8)
    chance, ends = random.Random(seed), collections.Counter[str]()
    print(f"LIMOSA_TEST_SEED={seed}")
    for number in range(MOVES):
        moved = Moved(lab, chance)
        print(f"{number}: {moved}", flush=True)
        end = moved.done()
        ends[f"{moved.method}, {moved.what}: {end}"] += 1
    print("\n".join(f"{count} {words}" for words, count in sorted(ends.items())))
    assert sum(ends.values()) == MOVES
