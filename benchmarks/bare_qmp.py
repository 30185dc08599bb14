"""One migration by plain QMP and nothing else: what ``limosa migrate`` is compared with.

Standard library only, no journal, no checks, no rescue. It launches the target QEMU with the source's own command
line, sets the same capabilities and parameters on both, migrates, waits until the target runs, quits the source and
waits until it is gone. The plan is one JSON object on standard input, the figures are one on standard output::

    {"guest": "guest1", "source_root": "/proc/100/root", "target_root": "/proc/101/root", "address": "10.77.2.12",
     "enter": ["nsenter", ...], "rename": ["guest1@host1", "guest1@host2"], "parameters": {"downtime-limit": 300}}
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LIMIT_S = 120.0
POLL_S = 0.004


class Qmp:
    """One monitor. Events that come before an answer are dropped: what has happened is asked for, not remembered."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(LIMIT_S)
        self._socket.connect(path)
        self._file = self._socket.makefile("rwb")
        self._file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._file.flush()
        while line := self._file.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise SystemExit(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise SystemExit(f"{command}: QEMU went away")


def wait(condition: Any, what: str) -> Any:
    """Look until *condition* gives something."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(POLL_S)
    raise SystemExit(f"{what} did not happen within {LIMIT_S:g} s")


def connected(path: str) -> Qmp | None:
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        return Qmp(path)
    return None


def launch(plan: dict[str, Any], process: Path) -> None:
    """Start the target QEMU: the source's command line, logs renamed, and ``-incoming defer``."""
    old, new = plan["rename"]
    argv = [word.replace(old, new) for word in (process / "cmdline").read_bytes().decode().split("\0")[:-1]]
    if "-incoming" not in argv:
        argv += ["-incoming", "defer"]
    folder = Path(f"{plan['target_root']}/run/limosa/guests/{plan['guest']}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    nothing = subprocess.DEVNULL
    subprocess.Popen([*plan["enter"], *argv], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


def migrate(plan: dict[str, Any]) -> dict[str, Any]:
    folder = f"run/limosa/guests/{plan['guest']}"
    source = Qmp(f"{plan['source_root']}/{folder}/control.qmp")
    pid = Path(f"{plan['source_root']}/{folder}/qemu.pid").read_text().strip()
    process = Path(f"{plan['source_root']}/proc/{pid}")
    launch(plan, process)
    target = wait(lambda: connected(f"{plan['target_root']}/{folder}/control.qmp"), "the target's start")
    for side in (source, target):
        side.execute("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
    source.execute("migrate-set-parameters", **plan["parameters"])
    target.execute("migrate-incoming", uri=f"tcp:{plan['address']}:0")
    port = target.execute("query-migrate")["socket-address"][0]["port"]
    source.execute("migrate", uri=f"tcp:{plan['address']}:{port}")
    info = wait(lambda: ended(source), "the migration's end")
    if info["status"] != "completed":
        raise SystemExit(f"the migration ended as {info['status']}")
    wait(lambda: target.execute("query-status")["status"] == "running", "the guest's start on the target")
    info = source.execute("query-migrate")
    source.execute("quit")
    wait(lambda: not process.exists(), "the source's end")
    return {"total_ms": info["total-time"], "qemu_downtime_ms": info["downtime"]}


def ended(source: Qmp) -> dict[str, Any] | None:
    info: dict[str, Any] = source.execute("query-migrate")
    return info if info["status"] in ("completed", "failed", "cancelled") else None


if __name__ == "__main__":
    print(json.dumps(migrate(json.load(sys.stdin))), flush=True)
    os._exit(0)  # the target QEMU is a child, and is meant to stay
