"""The verbs on one guest: start, stop, ssh, exec, console, logs, explain, and what keeps a guest's disk.

One lab for the file: a micro guest with a qcow2 disk and a bare one beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import secrets
import select
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.limosa_command import Command, Traces

pytestmark = pytest.mark.system

LAB = """\
name: verbs
hosts: {host1: {}, host2: {}}
guests:
  web: {host: host1, memory: 192 MiB, disk: {format: qcow2}}
  small: {image: bare, host: host1, memory: 64 MiB}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Command]:
    home = Path(tempfile.mkdtemp(prefix="limosa-verbs-"))
    command, traces = Command(home), Traces(home)
    (home / "verbs.yaml").write_text(LAB)
    command.ok("up", "verbs.yaml", timeout_s=240)
    traces.look()
    yield command
    command.ok("down", "--lab", "verbs")
    traces.assert_gone(within_s=0)
    shutil.rmtree(home)


def state_of(lab: Command, guest: str) -> tuple[str, str]:
    found = {entry["name"]: entry for entry in lab.ok("status", "--json").json["guests"]}
    return found[guest]["state"], found[guest]["host"]


def test_status_of_a_lab_that_is_up(lab: Command) -> None:
    text = lab.ok("status").text
    assert text.splitlines()[0] == "lab verbs: up"
    assert state_of(lab, "web") == ("running", "host1")
    assert state_of(lab, "small") == ("running", "host1")


def test_start_and_up_twice_do_nothing(lab: Command) -> None:
    assert lab.ok("start", "web").text == "nothing to do: web runs already\n"
    assert lab.ok("start", "web", "--json").json == {"guest": "web", "started": False}
    assert lab.ok("up", "verbs.yaml").text == "nothing to do: the lab is up\n"


def test_ssh_passes_exit_code_and_every_byte(lab: Command) -> None:
    assert lab.run("ssh", "web", "--", "exit", "37").returncode == 37
    every = bytes(range(256)) * 40 + secrets.token_bytes(5000)
    echoed = lab.run("ssh", "web", "--", "cat", stdin=every)
    assert (echoed.returncode, echoed.out) == (0, every)
    said = lab.run("ssh", "web", "--json", "--", "hostname; echo trouble >&2; exit 3")
    assert said.returncode == 3
    assert (said.json["stdout"], said.json["stderr"], said.json["returncode"]) == ("web\n", "trouble\n", 3)


def test_exec_runs_on_the_host(lab: Command) -> None:
    assert lab.ok("exec", "host2", "--", "hostname").text == "host2\n"
    assert "10.77.1.1/24" in lab.ok("exec", "client", "--", "ip", "-4", "addr").text
    assert lab.run("exec", "host1", "--", "sh", "-c", "exit 9").returncode == 9
    every = secrets.token_bytes(100_000)
    assert lab.run("exec", "host1", "--", "cat", stdin=every).out == every
    assert lab.run("exec", "host1", "--", "cat", "--json").returncode != 0, "what follows -- is the command's own"


class Terminal:
    """``limosa console`` on a pseudo-terminal, as a person has it."""

    def __init__(self, lab: Command, guest: str) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        self.seen = b""
        terminal = {"stdin": self.theirs, "stdout": self.theirs, "stderr": self.theirs}
        self.child = lab.begin("console", guest, **terminal)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.ours)
        os.close(self.theirs)

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def read_until(self, text: bytes, within_s: float = 20) -> None:
        """Read until *text* came; what came up to its end is dropped."""
        end = time.monotonic() + within_s
        while text not in self.seen:
            assert time.monotonic() < end, (text, self.seen[-800:])
            if select.select([self.ours], [], [], 0.2)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.ours, 65536)
        self.seen = self.seen.split(text, 1)[1]


def test_console_types_shows_survives_a_migration_and_leaves(lab: Command) -> None:
    with Terminal(lab, "web") as terminal:
        terminal.read_until(b"Ctrl-] leaves")
        terminal.type(b"\r")
        terminal.read_until(b"# ")
        # The answer is not what was typed, so that an echo cannot pass for it.
        terminal.type(b"echo $((6*7))-before\r")
        terminal.read_until(b"42-before")
        raw = termios.tcgetattr(terminal.theirs)
        assert not raw[3] & (termios.ECHO | termios.ICANON | termios.ISIG), "every key goes to the guest"
        lab.ok("migrate", "web", "host2")
        terminal.type(b"echo $((6*7))-after\r")
        terminal.read_until(b"42-after")
        terminal.type(b"\x1d")
        terminal.read_until(b"left the console; web goes on")
        assert terminal.child.wait(10) == 0
        assert termios.tcgetattr(terminal.theirs) == terminal.before
    assert state_of(lab, "web") == ("running", "host2")
    lab.ok("migrate", "web", "host1")


def test_console_takes_a_long_paste_whole(lab: Command) -> None:
    paste = secrets.token_hex(5120).encode()
    with Terminal(lab, "web") as terminal:
        terminal.read_until(b"Ctrl-] leaves")
        terminal.type(b"\r")
        terminal.read_until(b"# ")
        terminal.type(b"stty -icanon -echo; echo $((6*7))-paste; head -c %d | sha256sum; stty sane\r" % len(paste))
        terminal.read_until(b"42-paste")
        terminal.type(paste)
        terminal.read_until(hashlib.sha256(paste).hexdigest().encode(), within_s=60)
        terminal.type(b"\x1d")
        assert terminal.child.wait(10) == 0


def test_console_ends_with_its_guest_and_on_signals(lab: Command) -> None:
    with Terminal(lab, "small") as terminal:
        terminal.read_until(b"Ctrl-] leaves")
        lab.ok("stop", "small")
        terminal.read_until(b"small has ended")
        assert terminal.child.wait(10) == 0
        assert termios.tcgetattr(terminal.theirs) == terminal.before
    lab.ok("start", "small")
    with Terminal(lab, "small") as terminal:
        terminal.read_until(b"Ctrl-] leaves")
        time.sleep(0.3)
        terminal.child.send_signal(signal.SIGTERM)
        assert terminal.child.wait(10) == 143
        assert termios.tcgetattr(terminal.theirs) == terminal.before


def test_logs(lab: Command) -> None:
    text = lab.ok("logs", "web").text
    assert "== web@host1.console.log" in text
    assert "\x1b" not in text, "busybox's shell asks the terminal where its cursor is; the reader's must not answer"
    assert lab.ok("logs", "-n", "1", "web").text.count("\n") <= 2 * text.count("== ")
    assert set(lab.ok("logs", "--json").json) >= {"web@host1.console.log", "small@host1.console.log"}
    assert all(name.startswith("small@") for name in lab.ok("logs", "small", "--json").json)


def test_calibrate_pauses_the_guest_for_known_times(lab: Command) -> None:
    said = lab.ok("calibrate", "web", "--repeat", "3", "--json").json
    pauses = said["summary"]["pauses"]
    assert sorted(pause["requested_ms"] for pause in pauses) == [5] * 3 + [20] * 3 + [100] * 3 + [500] * 3
    # A machine that is held up itself stops and wakes the guest late, and brings its ticks late: that lengthens one
    # clock or another, by any amount. Of the three pauses of one length one was left in peace.
    for requested_ms in (5, 20, 100, 500):
        told = [pause["clocks"] for pause in pauses if pause["requested_ms"] == requested_ms]
        spread_ms = [
            max(abs(clocks[name] - requested_ms) for name in ("stop_resume_ms", "guest_lost_ms", "tick_gap_ms"))
            for clocks in told
        ]
        assert min(spread_ms) < 50, told
    assert "clock ran" not in " ".join(said["summary"]["remarks"])
    assert state_of(lab, "web") == ("running", "host1")


def test_explain_is_the_real_command_line(lab: Command) -> None:
    pairs = lab.ok("explain", "web", "--json").json
    assert all(pair["purpose"] for pair in pairs)
    explained = [word for pair in pairs for word in shlex.split(pair["what"])]
    pid = lab.ok("exec", "host1", "--", "sh", "-c", "cat /run/limosa/guests/web/qemu.pid").text.strip()
    real = lab.ok("exec", "host1", "--", "cat", f"/proc/{pid}/cmdline").out.rstrip(b"\0").decode().split("\0")
    # A guest that has moved runs in a QEMU that once waited for it.
    moved = ["-incoming", "defer"]
    assert explained == [word for word in real if word not in moved]


def test_stop_presses_the_power_button_and_the_disk_stays(lab: Command) -> None:
    token = secrets.token_hex(8)
    lab.ok("ssh", "web", "--", f"echo {token} >/var/tmp/kept; sync")
    assert lab.ok("stop", "web", "--json").json == {"guest": "web", "stopped": True}
    assert state_of(lab, "web") == ("stopped", "")
    assert lab.ok("stop", "web").text == "nothing to do: web does not run\n"
    disk = lab.state / "labs" / "verbs" / "storage" / "shared" / "web.qcow2"
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", str(disk)], check=True)
    assert "Power down" in lab.ok("logs", "web", "--lines", "100").text or "reboot: " in lab.ok("logs", "web").text
    assert lab.ok("start", "web", timeout_s=200).text == ""
    # The agent may answer before sshd listens.
    end = time.monotonic() + 60
    while (kept := lab.run("ssh", "web", "--", "cat /var/tmp/kept")).returncode and time.monotonic() < end:
        time.sleep(0.5)
    assert kept.text == f"{token}\n"
    lab.ok("stop", "web", "--force")
    lab.ok("down", "--keep-disks")
    assert disk.exists()
    status = lab.ok("status", "--lab", "verbs", "--json").json
    assert (status["up"], {guest["state"] for guest in status["guests"]}) == (False, {"stopped"})
    assert "lab verbs: down" in lab.ok("status", "--lab", "verbs").text
    lab.ok("up", "verbs.yaml", "--no-wait", timeout_s=60)
    end = time.monotonic() + 120
    while (kept := lab.run("ssh", "web", "--", "cat /var/tmp/kept")).returncode and time.monotonic() < end:
        time.sleep(1)
    assert kept.text == f"{token}\n"


def test_up_starts_again_what_was_killed(lab: Command) -> None:
    pid = lab.ok("exec", "host1", "--", "sh", "-c", "cat /run/limosa/guests/small/qemu.pid").text.strip()
    lab.ok("exec", "host1", "--", "kill", "-KILL", pid)
    assert state_of(lab, "small") == ("stopped", "")
    assert lab.ok("up", "verbs.yaml").text == "made: guest small\n"
    assert state_of(lab, "small") == ("running", "host1")


def test_status_of_a_lab_that_is_half_up(lab: Command) -> None:
    lab.ok("migrate", "small", "host2")
    lab.ok("host", "power-off", "host2")
    status = lab.ok("status", "--json").json
    assert {host["name"]: host["state"] for host in status["hosts"]} == {"host1": "on", "host2": "off"}
    assert state_of(lab, "small") == ("stopped", "")
    lab.run("migrate", "small", "host1").refused(4, "guest small does not run: its host host2 is off", hint="host2")
    lab.ok("host", "restore", "host2")
    lab.ok("start", "small")
    assert state_of(lab, "small") == ("running", "host1")
