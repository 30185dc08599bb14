"""The prober: one process, the standard library, run by ``client_probe`` where clients of the guest live.

It runs in the client's network namespace, apart from the controller, whose work must not be measured. Probes hear the
guest's ticks, ask for echoes, keep a TCP connection (their files say what each does); this loop joins them. Every
arrival is stamped by the kernel (SO_TIMESTAMPNS), so packets can lie in the socket until many are read at once: few
wake-ups, and the moment at which Python runs does not matter.

Its only argument is a JSON object: the directory for the samples, and for each probe its module and its config. JSON
lines on standard input, after the program itself, command it: ``{"do": "start"}``, ``{"do": "mark", "name": "..."}``,
``{"do": "status"}``, ``{"do": "stop"}``, and each is answered by one on standard output. End of file on standard input
means stop: the prober never outlives its controller. Samples are appended once a second, to a file a probe.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
from typing import Any

from limosa.probes.probe import Sampler

DRAIN_NS = 50_000_000
"""How long ticks may lie in the socket; the buffer that every process may have holds some 250 of them."""
FLUSH_NS = 1_000_000_000
IDLE_S = 0.5
"""Before the start the loop turns this often: a signal alone does not end select()."""


class Prober:
    """The loop that joins the probes and the controller's commands."""

    def __init__(self, config: dict[str, Any]) -> None:
        directory = config["directory"]
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103 (pathlib would double the start-up time)
        self._samplers: dict[str, Sampler] = {}
        for module, told in config["probes"].items():
            probe = sys.modules[module].PROBE
            self._samplers[probe.name] = probe.sampler(probe.config(**told), f"{directory}/{probe.name}.csv")
        self._commands, self._running, self._ended, self._cpu_started_s = b"", False, False, 0.0
        self._drain_ns = self._flush_ns = self._started_ns = self._wakeups = 0

    def run(self) -> None:
        """Serve until told to stop, until the controller is gone, or until SIGTERM."""
        self.say(did="ready")
        while not self._ended:
            self._wait()
            if self._running:
                self._work(time.monotonic_ns())

    def say(self, **message: object) -> None:
        """One line to the controller; one that has gone is noticed by its end of the other pipe."""
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(message).encode() + b"\n")

    def end(self, *_signal: object) -> None:
        """Leave the loop at the next chance."""
        self._ended = True

    def _wait(self) -> None:
        samplers, waiting_s = self._samplers.values(), IDLE_S
        if self._running:
            due_ns = min([self._drain_ns, self._flush_ns, *(sampler.due_ns for sampler in samplers)])
            waiting_s = max(0.0, (due_ns - time.monotonic_ns()) / 1e9)
        reading: list[Any] = [0, *(sock for sampler in samplers for sock in sampler.reading)]
        writing = [sock for sampler in samplers for sock in sampler.writing]
        readable, writable, _ = select.select(reading, writing, [], waiting_s)
        self._wakeups += 1
        spoken = {*readable, *writable}
        for sampler in samplers:
            if not spoken.isdisjoint((*sampler.reading, *sampler.writing)):
                sampler.ready(time.monotonic_ns())
        if 0 in readable:
            self._read_commands()

    def _work(self, now_ns: int) -> None:
        for sampler in self._samplers.values():
            if now_ns >= sampler.due_ns:
                sampler.act(now_ns)
        # Awake anyway: reading a little early saves a wake-up of its own.
        if now_ns >= self._drain_ns - DRAIN_NS // 2:
            self._drain()
            self._drain_ns = now_ns + DRAIN_NS
        if now_ns >= self._flush_ns:
            self._flush_ns = now_ns + FLUSH_NS
            self._flush()

    def _drain(self) -> None:
        for sampler in self._samplers.values():
            sampler.drain()

    def _flush(self, everything: bool = False) -> None:
        for sampler in self._samplers.values():
            sampler.flush(everything)

    def _read_commands(self) -> None:
        data = os.read(0, 65536)
        self._ended = self._ended or not data
        *lines, self._commands = (self._commands + data).split(b"\n")
        for line in lines:
            try:
                command = json.loads(line)
                self._do(command["do"], command)
            except (ValueError, KeyError, TypeError):
                self.say(did="error", error=f"not a command: {line.decode(errors='replace')}")

    def _do(self, verb: str, command: dict[str, Any]) -> None:
        if verb == "start" and not self._running:
            self._start()
            self.say(did="start", time_ns=time.time_ns())
        elif verb == "mark":
            self._drain()
            for sampler in self._samplers.values():
                sampler.gap.since_mark_ns = 0
            self.say(did="mark", name=command.get("name", ""), time_ns=time.time_ns())
        elif verb == "status":
            self._drain()
            self.say(did="status", **self.report())
        elif verb == "stop":
            self.end()
        else:
            self.say(did="error", error=f"cannot do {verb!r} now")

    def _start(self) -> None:
        for sampler in self._samplers.values():
            sampler.forget()
        self._started_ns, self._cpu_started_s = time.monotonic_ns(), time.process_time()
        self._running, self._flush_ns = True, self._started_ns + FLUSH_NS

    def report(self) -> dict[str, Any]:
        """Everything that is known so far."""
        wall_s = (time.monotonic_ns() - self._started_ns) / 1e9 if self._running else 0.0
        cpu_s = time.process_time() - self._cpu_started_s
        own = {"time_ns": time.time_ns(), "wall_s": wall_s, "cpu_s": cpu_s, "wakeups": self._wakeups}
        return {**own, "probes": {name: sampler.report() for name, sampler in self._samplers.items()}}

    def close(self) -> None:
        """Write what is left and say the last word."""
        if self._running:
            self._drain()
        self._flush(everything=True)
        self.say(did="stop", **self.report())


def main() -> None:
    """Run one prober; what keeps it from starting is one JSON line on standard error."""
    gc.disable()
    try:
        prober = Prober(json.loads(sys.argv[1]))
    except (OSError, ValueError, KeyError, IndexError) as error:
        sys.exit(json.dumps({"did": "error", "error": f"{type(error).__name__}: {error}"}))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, prober.end)
    try:
        prober.run()
    finally:
        prober.close()
