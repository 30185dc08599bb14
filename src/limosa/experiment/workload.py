"""What the guest does while it is measured, and the proof afterwards that nothing of it was lost."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from limosa.deadline import Deadline
from limosa.errors import BusyError
from limosa.guest.agent.client import AgentClient
from limosa.results.format import Check, LoadReading

REGION = "limosa"
"""Taken first and given back last: as long as the guest has it, what writes there was set to work by a measurement."""
_LEAST_BYTES = 8
DISK_FILE = "/root/limosa.records"
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Workload:
    """Gentle by default: it shows that a working guest moves, and leaves the CPU to the migration."""

    region_bytes: int = 32 * _MIB
    """Memory that is filled once and never written again; its checksum must not change."""
    working_set_bytes: int = 32 * _MIB
    """Memory that is written all the time; 0: none."""
    write_rate_bytes_per_s: int = 8 * _MIB
    """How fast that is written; 0: as fast as possible."""
    pattern: str = "uniform"
    """In which order its pages are written: ``uniform``, ``sequential`` or ``zipf``."""
    compressibility: float = 0.0
    """The share of each page that is constant, 0 to 1."""
    disk_writes_per_s: float = 20.0
    """Records written with fdatasync, each acknowledged only when it is on the disk; 0: none."""

    def described(self) -> dict[str, object]:
        """As it is recorded with the results."""
        return asdict(self)


class RunningWorkload:
    """A workload that was started; ``checksum`` is the region's, before anything moved."""

    def __init__(self, workload: Workload, checksum: str) -> None:
        self.workload, self.checksum = workload, checksum

    @classmethod
    async def start(cls, agent: AgentClient, workload: Workload) -> RunningWorkload:
        """Fill the region, start the writers, and return when they write."""
        region = await agent.region_fill(REGION, workload.region_bytes)
        if workload.working_set_bytes:
            await agent.memory_start(
                workload.working_set_bytes,
                rate_bytes_per_s=workload.write_rate_bytes_per_s,
                pattern=workload.pattern,
                compressibility=workload.compressibility,
            )
            await agent.wait_memory_filled(Deadline.after(120))
        if workload.disk_writes_per_s:
            await agent.disk_start(DISK_FILE, rate_per_s=workload.disk_writes_per_s)
        return cls(workload, region.checksum)

    async def read(self, agent: AgentClient) -> LoadReading:
        """What it has done until now: what was asked of it is not always what it can."""
        memory = await agent.memory_status() if self.workload.working_set_bytes else None
        disk = await agent.disk_status() if self.workload.disk_writes_per_s else None
        return LoadReading(
            time_ns=time.time_ns(),
            memory_bytes=memory.bytes_written if memory else None,
            disk_writes=disk.acknowledged if disk else None,
        )

    async def finish(self, agent: AgentClient) -> list[Check]:
        """Stop the writers and check all that they wrote."""
        checks = []
        if self.workload.disk_writes_per_s:
            checks.append(await self._check_disk(agent))
        if self.workload.working_set_bytes:
            checks.append(await self._check_memory(agent))
        region = await agent.region_checksum(REGION)
        checks.append(
            Check(
                name="memory-checksum",
                passed=region.checksum == self.checksum,
                detail=f"{region.bytes // _MIB} MiB that nobody wrote: {region.hash} {self.checksum} before, "
                f"{region.checksum} after",
            )
        )
        return checks

    @staticmethod
    async def end(agent: AgentClient) -> None:
        """End what a workload still does in the guest, whoever began it, and give back what it took. Writers that no
        workload started go on."""
        try:
            await agent.region_fill(REGION, _LEAST_BYTES)  # which asks whether it is there without reading all of it
        except BusyError:
            await agent.memory_stop(release=True)
            await agent.disk_stop(remove=DISK_FILE)
        await agent.region_release(REGION)

    async def _check_disk(self, agent: AgentClient) -> Check:
        done = await agent.disk_stop()
        verdict = await agent.disk_verify(DISK_FILE, acknowledged=done.acknowledged)
        detail = (
            f"{done.acknowledged} acknowledged writes, {verdict.records} records found whole, "
            f"{verdict.missing} missing, {verdict.corrupt} corrupt; slowest write {done.slowest_ms:.0f} ms"
        )
        if done.errors:
            detail += f"; {done.errors} writes failed: {done.last_error}"
        return Check(name="disk-writes", passed=verdict.sound and done.errors == 0, detail=detail)

    async def _check_memory(self, agent: AgentClient) -> Check:
        status = await agent.memory_stop()
        verdict = await agent.memory_verify()
        return Check(
            name="memory-writes",
            passed=verdict.sound,
            detail=f"{status.bytes_written // _MIB} MiB written over {verdict.pages} pages: "
            f"{verdict.corrupt} corrupt, {verdict.stale} with a lost write",
        )
