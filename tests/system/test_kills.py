"""Commands on one lab, several side by side, are killed at any moment: no guest is ended by one that was not told to.

One guest (``free``) is started, stopped and moved; the other (``kept``) is never told to stop, so it is never to end:
its kernel's boot id tells. A witness watches the processes themselves. ``LIMOSA_TEST_SEED`` repeats a campaign, and
``LIMOSA_TEST_KILLS`` sets how many kills it takes.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kill_witness import Witness, processes
from move_bench import AMPLE, Bench, bench

KILLS = int(os.environ.get("LIMOSA_TEST_KILLS", "300"))
NAME = f"kills-{secrets.token_hex(3)}"
"""Of this run alone, as the witness knows a guest by its lab's name."""
LAB = f"""\
name: {NAME}
hosts: {{host1: {{}}, host2: {{}}}}
guests:
  free: {{host: host1, image: bare, memory: 64 MiB, accel: tcg}}
  kept: {{host: host1, memory: 128 MiB, accel: tcg}}
"""
SIGNALS = (signal.SIGKILL,) * 7 + (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ENDED_ANYHOW_S = 3.0
"""How long after the end of a killed ``stop`` a guest that was told to end may take for it."""

pytestmark = [pytest.mark.system, pytest.mark.slow]


@dataclass(slots=True)
class Shot:
    """One command, and when it lived (monotonic seconds)."""

    words: tuple[str, ...]
    child: subprocess.Popen[str]
    begun_s: float = field(default_factory=time.monotonic)
    ended_s: float = float("inf")
    killed: bool = False
    out: str = ""
    err: str = ""

    def end(self) -> None:
        self.out, self.err = self.child.communicate(timeout=300)
        self.ended_s = time.monotonic()


def begin(lab: Bench, verb: str, *words: str) -> subprocess.Popen[str]:
    """Start a command on the lab, which is named by the environment: what follows ``--`` is the guest's own.

    Without warnings as errors: an import that a signal breaks off has Python itself complain of its open file.
    """
    argv, pipe = [sys.executable, "-m", "limosa", verb, *words], subprocess.PIPE
    environment = {**lab.environment, "LIMOSA_LAB": lab.name}
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
    )


@dataclass(slots=True)
class Campaign:
    """Rounds of commands side by side; what each of them did is kept."""

    lab: Bench
    file: Path
    witness: Witness
    chance: random.Random
    shots: list[Shot] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(shot.killed for shot in self.shots)

    def command(self) -> tuple[str, ...]:
        host = self.chance.choice(("host1", "host2"))
        return self.chance.choice((
            ("start", "free"), ("start", "kept", "--no-wait"), ("stop", "free"), ("stop", "free", "--force"),
            ("migrate", "free", host, *AMPLE), ("migrate", "free", host, *AMPLE), ("migrate", "kept", host, *AMPLE),
            ("migrate", "kept", host, *AMPLE), ("ssh", "kept", "--", "true"), ("status", "--json"), ("up", "--no-wait"),
        ))  # fmt: skip

    def begin(self, words: tuple[str, ...]) -> Shot:
        verb, *rest = (words[0], str(self.file), *words[1:]) if words[0] == "up" else words
        return Shot(words, begin(self.lab, verb, *rest))

    def round(self) -> None:
        """Two to four commands, of which most are killed within the time that they take."""
        begun = []
        for _ in range(self.chance.randint(2, 4)):
            begun.append(self.begin(self.command()))
            time.sleep(self.chance.random() * 0.1)
        for shot in begun:
            if self.chance.random() < 0.85:
                time.sleep(self.chance.random() * self.chance.choice((0.1, 0.4, 0.8)))
                if shot.child.poll() is None:
                    shot.child.send_signal(self.chance.choice(SIGNALS))
                    shot.killed = True
        for shot in begun:
            shot.end()
        self.shots += begun
        for shot in begun:
            self.judge(shot)

    def judge(self, shot: Shot) -> None:
        assert "Traceback" not in shot.err, (shot.words, shot.err)
        if shot.words[0] == "status" and not shot.killed:
            for guest in json.loads(shot.out)["guests"]:
                if guest["state"] == "stopped":
                    assert not self.witness.always_there(guest["name"], shot.begun_s, shot.ended_s), shot.out

    def told_to_end(self, first_s: float, gone_s: float) -> bool:
        """Whether a command was under way that was told to end ``free``, or one that was interrupted while it started
        this very copy, which it takes back."""
        under_way = [shot for shot in self.shots if shot.begun_s <= gone_s <= shot.ended_s + ENDED_ANYHOW_S]
        stops = any(shot.words[:2] == ("stop", "free") for shot in under_way)
        starts = (("start", "free"), ("up", "--no-wait"))
        return stops or any(s.killed and s.words in starts and s.begun_s <= first_s for s in under_way)

    def status(self) -> dict[str, dict[str, Any]]:
        return {guest["name"]: guest for guest in self.lab.run("status", "--json").result["guests"]}

    def settled(self) -> None:
        """Nothing is at work: what status says is so."""
        told = self.status()
        for name in ("free", "kept"):
            there = len(processes(NAME, name))
            state, unfinished = told[name]["state"], told[name]["unfinished"]
            assert (state == "stopped") == (there == 0), (name, told[name], there)
            assert there < 2 or unfinished, (name, told[name], there)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path, LAB, NAME) as made:
        yield made


def boot_id(lab: Bench) -> str:
    """Of the kernel that runs in ``kept``; sshd may begin after the agent."""
    end_s = time.monotonic() + 120
    while True:
        with begin(lab, "ssh", "kept", "--", "cat", "/proc/sys/kernel/random/boot_id") as child:
            out, err = child.communicate(timeout=120)
        if child.returncode == 0:
            return out
        assert time.monotonic() < end_s, err
        time.sleep(1)


def test_commands_killed_side_by_side(lab: Bench, tmp_path: Path) -> None:
    seed = int(os.environ.get("LIMOSA_TEST_SEED", str(random.randrange(1 << 32))))
    print(f"LIMOSA_TEST_SEED={seed}")
    before = boot_id(lab)
    with Witness(NAME, ("free", "kept")) as witness:
        campaign = Campaign(lab, tmp_path / f"{NAME}.yaml", witness, random.Random(seed))
        while campaign.kills < KILLS:
            campaign.round()
            campaign.settled()
            assert not witness.twice, (seed, witness.twice)
            assert not witness.gone("kept"), (seed, [shot.words for shot in campaign.shots[-4:]])
            untold = [times for times in witness.gone("free") if not campaign.told_to_end(*times)]
            assert not untold, (seed, [(shot.words, shot.killed) for shot in campaign.shots[-4:]])
        lab.run("up")
        campaign.settled()
    assert boot_id(lab) == before, "kept was ended and started again"
    told = campaign.status()
    assert {told[name]["state"] for name in told} == {"running"}, told
    print(f"{campaign.kills} kills of {len(campaign.shots)} commands")
