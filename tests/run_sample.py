"""A sample run directory for tests of the report only: made up, seeded, and consistent in itself.

``python tests/run_sample.py demo DIRECTORY`` writes one; the kinds are the keys of ``KINDS``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from limosa import events, spec
from limosa.probes import cpu_loop, exchange, looks
from limosa.probes import ticks as tick_probe
from limosa.results import format as f

START_NS = 1_780_000_000_000_000_000
MIB = 1 << 20
Ints = NDArray[np.int64]


def at(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)


class Sample:
    """Builds one run; pauses are (start, end) in seconds since its beginning."""

    def __init__(self, path: Path, kind: str, *, end_s: float = 16.0) -> None:
        self.path, self.end_s = path, end_s
        self.random = np.random.default_rng(7)
        self.run = f.Run(
            id=f"20260528-202640-{kind}",
            kind=kind,
            lab="two-hosts",
            guest="guest1",
            started_ns=START_NS,
            ended_ns=at(end_s),
            status="completed",
            limosa="0.1.0",
        )
        self.migrations: list[f.Migration] = []
        self.pauses: list[f.Pause] = []
        self.checks: list[f.Check] = []
        self.rows: list[f.MigrationSummary] = []
        self.remarks: list[str] = []
        self.events: list[events.Event] = []
        self.progress: list[tuple[int | float | str, ...]] = []
        self.blackouts: list[tuple[float, float]] = []
        self.slow: list[tuple[float, float]] = []
        self.wake_s = 0.022
        """After a blackout, until the network hears the guest again."""

    def write_json(self, name: str, value: object) -> None:
        (self.path / name).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))

    def write_csv(self, name: str, columns: tuple[str, ...], rows: list[tuple[int | float | str, ...]]) -> None:
        lines = [",".join(columns), *(",".join(str(cell) for cell in row) for row in rows)]
        (self.path / "samples" / f"{name}.csv").write_text("\n".join(lines) + "\n")

    def after_blackout(self, seconds: float, extra: float) -> float:
        for start, end in self.blackouts:
            if start <= seconds < end + extra:
                return end + extra
        return seconds

    def ticks(self) -> list[tuple[int, int, int, int]]:
        """1 kHz while the guest runs; its monotonic clock stops in blackouts."""
        rows, lost, guest = [], 0.0, 2.0
        blackouts = iter([*self.blackouts, (1e9, 1e9)])
        pause = next(blackouts)
        for number in range(int((self.end_s - 2.0) * 1000)):
            guest = 2.0 + number * 0.001
            now = guest + lost
            if now >= pause[0]:
                lost += pause[1] - pause[0]
                pause, now = next(blackouts), pause[1]
            if now > self.end_s:
                break
            heard = self.after_blackout(now, self.wake_s) + float(self.random.gamma(2.0, 0.00006))
            rows.append((number, round(guest * 1e9), at(guest), at(heard)))
        return rows

    def trips(self, period_s: float, base_ms: float, *, lossy: bool) -> list[tuple[int | float | str, ...]]:
        rows: list[tuple[int | float | str, ...]] = []
        for number in range(int((self.end_s - 2.0) / period_s)):
            sent = 2.0 + number * period_s
            slow = 3.0 if any(a <= sent < b for a, b in self.slow) else 1.0
            there = self.after_blackout(sent, self.wake_s * 1.4)
            if lossy and there > sent:
                rows.append((number, at(sent), ""))
                continue
            took = base_ms * slow * float(self.random.lognormal(0.0, 0.35)) / 1000
            rows.append((number, at(sent), at(there + took)))
        return rows

    def cpu(self, ticks: list[tuple[int, int, int, int]]) -> list[tuple[int | float | str, ...]]:
        rows: list[tuple[int | float | str, ...]] = []
        for _, guest_ns, _, received_ns in ticks[20::20]:
            seconds = (received_ns - START_NS) / 1e9
            share = 0.62 if any(a <= seconds < b for a, b in self.slow) else 1.0
            rows.append((guest_ns, round(20e6 / share * float(self.random.normal(1, 0.02))), 400))
        return rows

    def _progress(self, start: float, stop: float, *, converges: bool) -> dict[str, int]:
        """Looks at query-migrate, and the last as QEMU would tell it."""
        index, total = len(self.migrations) + 1, 530 * MIB
        sent, transferred, iteration = 0.0, 0.0, 1
        for number in range(int((stop - start - 0.1) / 0.02)):
            now = start + 0.1 + number * 0.02
            part = (now - start) / (stop - start)
            rate = 290 * MIB * float(self.random.normal(1, 0.06))
            transferred += rate * 0.02
            iteration = 1 + int(part * 4.99)
            dirty = 0 if iteration == 1 else 40 * MIB * float(self.random.normal(1, 0.08))
            sent = total * (1 - part * 5) if iteration == 1 else 60 * MIB * (1 - (part * 5) % 1) / iteration
            if not converges and iteration > 1:
                dirty, sent = 320 * MIB, 300 * MIB * (1.08 - (part * 5) % 1)
            row = (round(transferred), round(dirty), round(rate), iteration)
            self.progress.append((at(now), index, "active", total, max(0, round(sent)), *row))
        return {
            "transferred": round(transferred),
            "remaining": 0 if converges else max(0, round(sent)),
            "total": total,
            "dirty-sync-count": iteration,
        }

    def migrate(
        self,
        start_s: float,
        length_s: float,
        pause_ms: float,
        source: str,
        target: str,
        outcome: str = "completed",
    ) -> f.Migration:
        """One migration: a bulk pass, shrinking passes, a blackout when it completes."""
        stop = start_s + length_s - 0.12 - pause_ms / 1000
        done = outcome == "completed"
        ram = self._progress(start_s, stop, converges=done)
        if done:
            self.blackouts.append((stop, stop + pause_ms / 1000))
        self.slow.append((start_s, stop))
        phases = [("prepare", at(start_s)), ("transfer", at(start_s + 0.1))]
        if done:
            phases += [
                ("switchover", at(stop)),
                ("confirm", at(stop + pause_ms / 1000)),
                ("close", at(start_s + length_s - 0.04)),
            ]
        migration = f.Migration(
            index=len(self.migrations) + 1,
            guest="guest1",
            source=source,
            target=target,
            outcome=outcome,  # type: ignore[arg-type]
            started_ns=at(start_s),
            ended_ns=at(start_s + length_s),
            stop_ns=at(stop) if done else None,
            resume_ns=at(stop + pause_ms / 1000) if done else None,
            parameters={"downtime-limit": 300, "max-bandwidth": 0},
            capabilities_in_force=["events"],
            parameters_in_force={"downtime-limit": 300, "max-bandwidth": 0, "multifd-channels": 2},
            qemu={
                "status": outcome,
                "total-time": round((length_s - 0.15) * 1000),
                "ram": ram,
            },
            phases=phases,
        )
        self.migrations.append(migration)
        return migration

    def command(self, seconds: float, host: str, *argv: str) -> None:
        self.events.append(
            events.CommandRan(time_ns=at(seconds), host=host, argv=argv, returncode=0, duration_s=0.0132)
        )

    def qmp(self, seconds: float, host: str, command: str, answer: object = None, **arguments: object) -> None:
        self.events.append(
            events.QmpExchanged(
                time_ns=at(seconds),
                guest="guest1",
                host=host,
                command=command,
                arguments=arguments,
                answer={} if answer is None else answer,
                duration_ms=0.61,
            )
        )

    def describe(self) -> None:
        """The commands of a run with migrations."""
        self.events.append(events.StageStarted(time_ns=at(0.01), stage="hosts"))
        self.command(0.1, "", "unshare", "--user", "--map-root-user", "--net", "sleep", "infinity")
        self.command(0.2, "host1", "ip", "-json", "link", "add", "br-lan", "type", "bridge")
        self.events.append(events.StageFinished(time_ns=at(0.6), stage="hosts", duration_s=0.59))
        self.events.append(events.StageStarted(time_ns=at(0.6), stage="guest guest1"))
        self.command(
            0.7,
            "host1",
            "qemu-system-x86_64",
            "-name",
            "guest=guest1,process=limosa guest1",
            "-machine",
            "pc-q35-7.2,accel=tcg",
            "-m",
            "512",
            "-nodefaults",
            "-sandbox",
            "on",
        )
        self.events.append(events.StageFinished(time_ns=at(1.9), stage="guest guest1", duration_s=1.3))
        for migration in self.migrations:
            begin = (migration.started_ns - START_NS) / 1e9
            stage = f"migrate guest1 to {migration.target}"
            self.events.append(events.StageStarted(time_ns=at(begin), stage=stage))
            self.qmp(begin + 0.02, migration.target, "migrate-incoming", uri="tcp:10.77.2.12:4444")
            self.qmp(begin + 0.05, migration.source, "migrate-set-parameters", **{"downtime-limit": 300})
            self.qmp(begin + 0.1, migration.source, "migrate", uri="tcp:10.77.2.12:4444")
            for number in range(60):
                self.qmp(begin + 0.1 + number * 0.02, migration.source, "query-migrate", {"status": "active"})
            if migration.stop_ns is not None:
                self.events.append(
                    events.QmpExchanged(
                        time_ns=migration.stop_ns, guest="guest1", host=migration.source, qmp_event="STOP"
                    )
                )
            self.events.append(events.StageFinished(time_ns=migration.ended_ns, stage=stage, duration_s=1.5))

    def write(self) -> Path:
        """Everything to disk; clocks are computed from the samples themselves."""
        (self.path / "samples").mkdir(parents=True)
        ticks = self.ticks()
        echo, service = self.trips(0.01, 0.42, lossy=True), self.trips(0.01, 0.8, lossy=False)
        self.migrations = [
            replace(m, clocks=self.clocks(m.stop_ns, m.resume_ns, ticks, echo, service)) for m in self.migrations
        ]
        self.pauses = [
            replace(p, clocks=self.clocks(p.stop_ns, p.resume_ns, ticks, echo, service)) for p in self.pauses
        ]
        self.rows = [self.row(m) for m in self.migrations]
        self.write_csv("ticks", tuple(tick_probe.COLUMNS), list(ticks))
        self.write_csv("echo", tuple(exchange.COLUMNS), echo)
        self.write_csv("service", tuple(exchange.COLUMNS), service)
        self.write_csv("cpu", tuple(cpu_loop.COLUMNS), self.cpu(ticks))
        if self.migrations:
            self.write_csv("progress", tuple(looks.COLUMNS), self.progress)
        self.write_json("run.json", self.run)
        lab = "hosts: {host1: {}, host2: {}}\nguests: {guest1: {host: host1}}\n"
        self.write_json("spec.json", spec.loads(f"name: {self.run.lab}\n{lab}"))
        self.write_json("environment.json", environment())
        self.write_json("migrations.json", self.migrations)
        if self.pauses:
            self.write_json("pauses.json", self.pauses)
        self.write_json("checks.json", self.checks)
        summary = f.Summary(
            migrations=self.rows,
            pauses=self.pauses,
            checks=self.checks,
            remarks=self.remarks,
            rest=f.Rest(length_s=7.4, longest_wait_ms=21.5, service_stall_ms=21.5, echo_gap_ms=9.0, tick_gap_ms=8.1),
            rates=[
                f.Rate(
                    name="memory writes",
                    unit="bytes/s",
                    requested=200.0 * MIB,
                    at_rest=154.0 * MIB,
                    moving=[60.0 * MIB for _ in self.rows],
                )
            ],
        )
        self.write_json("summary.json", summary)
        self.events.sort(key=lambda event: event.time_ns)
        (self.path / "events.jsonl").write_bytes(b"".join(events.to_json(e) + b"\n" for e in self.events))
        return self.path

    def clocks(
        self,
        stop_ns: int | None,
        resume_ns: int | None,
        ticks: list[tuple[int, int, int, int]],
        echo: list[tuple[int | float | str, ...]],
        service: list[tuple[int | float | str, ...]],
    ) -> f.Clocks:
        if stop_ns is None or resume_ns is None:
            return f.Clocks()
        near = (stop_ns - 200_000_000, resume_ns + 200_000_000)
        heard = np.array([row[3] for row in ticks if near[0] < row[3] < near[1]])
        answers = np.array([row[2] for row in echo if row[2] != "" and near[0] < int(row[2]) < near[1]])
        waits = [int(row[2]) - int(row[1]) for row in service if near[0] < int(row[1]) < near[1]]
        pause_ms = (resume_ns - stop_ns) / 1e6
        return f.Clocks(
            qemu_downtime_ms=round(pause_ms * 0.55) if self.migrations else None,
            stop_resume_ms=pause_ms - 0.8,
            tick_gap_ms=float(np.diff(np.sort(heard)).max()) / 1e6,
            echo_gap_ms=float(np.diff(np.sort(answers)).max()) / 1e6,
            service_stall_ms=max(waits) / 1e6,
            guest_lost_ms=pause_ms,
        )

    def row(self, m: f.Migration) -> f.MigrationSummary:
        total = m.qemu["total-time"]
        return f.MigrationSummary(
            index=m.index,
            source=m.source,
            target=m.target,
            outcome=m.outcome,
            duration_ms=total,
            command_ms=(m.ended_ns - m.started_ns) / 1e6,
            transferred_bytes=m.qemu["ram"]["transferred"],
            throughput_bytes_per_s=m.qemu["ram"]["transferred"] / total * 1000,
            iterations=m.qemu["ram"]["dirty-sync-count"],
            clocks=m.clocks,
            cpu_before_events_per_s=20013.4,
            cpu_during_events_per_s=12377.9,
            longest_wait_ms=m.clocks.service_stall_ms,
            clock_behind_ms=m.clocks.guest_lost_ms,
        )


def environment() -> f.Environment:
    host = f.HostEnvironment(
        kind="namespaces",
        kernel="6.1.0-18-amd64",
        cpu_model="Intel(R) Xeon(R) Processor @ 2.60GHz",
        cpus=2,
        memory_bytes=8 * 1024 * MIB,
        qemu_path="/usr/bin/qemu-system-x86_64",
        qemu_version="7.2.9",
    )
    return f.Environment(
        hosts={"host1": host, "host2": host},
        accel="tcg",
        accel_reason="KVM opened, but the guest's kernel said nothing within 5 s",
        machine="pc-q35-7.2",
        cpu="max",
        image={"name": "micro", "kernel": "6.1.0-18-amd64"},
        load_average_before=0.31,
        load_average_after=1.44,
        steal_share=0.012,
        probes={"ticks_hz": 1000, "echo_hz": 100, "service_hz": 100, "cpu": "20 ms loop"},
        workload={"memory_writer": "40 MiB/s over 128 MiB, uniform"},
    )


def _checks() -> list[f.Check]:
    return [
        f.Check(name="guest-alive", passed=True, detail="The guest answered over SSH after the last migration."),
        f.Check(name="disk-writes", passed=True, detail="All 1,204 acknowledged writes are on the disk."),
        f.Check(name="memory-checksum", passed=True, detail="64 MiB have the same checksum as before."),
        f.Check(
            name="ssh-session",
            passed=True,
            detail="The session opened before the first migration still answers.",
        ),
        f.Check(name="tcp-connection", passed=True, detail="1,398 of 1,398 requests answered on one connection."),
        f.Check(name="single-copy", passed=True, detail="At no time did two QEMUs run the guest."),
    ]


def demo(path: Path) -> Path:
    sample = Sample(path, "demo")
    sample.migrate(4.0, 2.3, 61.0, "host1", "host2")
    sample.migrate(9.0, 1.7, 48.0, "host2", "host1")
    sample.checks = _checks()
    sample.remarks = [
        "The first move of a guest is slower than later ones: its memory is touched for the first time.",
        "The guest is emulated (TCG): times are longer than with KVM.",
    ]
    sample.describe()
    return sample.write()


def failed(path: Path) -> Path:
    sample = Sample(path, "migrate", end_s=12.0)
    sample.migrate(4.0, 3.1, 60.0, "host1", "host2", outcome="failed")
    error = "The link to host2 went down while memory was being sent; guest1 runs on host1."
    sample.migrations = [replace(m, error=error) for m in sample.migrations]
    sample.run = replace(sample.run, status="failed", error=error)
    sample.checks = [
        _checks()[0],
        f.Check(name="tcp-connection", passed=False, detail="No answer for 9.1 s."),
    ]
    sample.describe()
    return sample.write()


def cancelled(path: Path) -> Path:
    sample = Sample(path, "migrate", end_s=30.0)
    sample.migrate(4.0, 22.0, 60.0, "host1", "host2", outcome="cancelled")
    error = "The guest dirties memory faster than the link carries it: cancelled after 22 s."
    sample.migrations = [replace(m, error=error) for m in sample.migrations]
    sample.run = replace(sample.run, status="cancelled")
    sample.describe()
    return sample.write()


def calibrate(path: Path) -> Path:
    sample = Sample(path, "calibrate", end_s=22.0)
    sample.wake_s = 0.0004
    start = 3.0
    for requested in (5.0, 20.0, 100.0, 500.0):
        for _ in range(5):
            end = start + requested / 1000 + float(sample.random.gamma(2.0, 0.0002))
            sample.blackouts.append((start, end))
            sample.pauses.append(f.Pause(requested_ms=requested, stop_ns=at(start), resume_ns=at(end)))
            start += 0.9
    return sample.write()


def missing(path: Path) -> Path:
    """A demo that was killed: samples absent, empty or torn, no summary, no environment."""
    demo(path)
    for name in ("samples/ticks.csv", "summary.json", "environment.json", "checks.json"):
        (path / name).unlink()
    (path / "samples/echo.csv").write_text(",".join(tuple(exchange.COLUMNS)) + "\n")
    service = path / "samples/service.csv"
    service.write_text(service.read_text()[:4001])
    run = msgspec.json.decode((path / "run.json").read_bytes(), type=f.Run)
    (path / "run.json").write_bytes(msgspec.json.encode(replace(run, ended_ns=None, status="running")))
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "demo": demo,
    "failed": failed,
    "cancelled": cancelled,
    "calibrate": calibrate,
    "missing": missing,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](Path(sys.argv[2]))
