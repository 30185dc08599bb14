"""The guest's processor: a fixed loop inside it, and how long each turn took by the guest's clocks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limosa import paths
from limosa.deadline import Deadline
from limosa.guest.agent.client import AgentClient
from limosa.probes.pace import Probing
from limosa.probes.pane import Pane, Speed
from limosa.probes.probe import Place, Probe

if TYPE_CHECKING:
    from limosa.probes.whole_numbers import Column

READ_S = 60.0
"""How long the samples may take to be read: a run of an hour has some 180,000, and 480 come at once."""

COLUMNS = {"guest_monotonic_ns": int, "duration_ns": int, "events": int}


@dataclass(frozen=True, slots=True)
class CpuSamples:
    """Turns of a fixed loop inside the guest: when each began (guest clock), how long it took, what it did."""

    guest_monotonic_ns: Column
    duration_ns: Column
    events: Column

    def __len__(self) -> int:
        return len(self.events)


class CpuProbe(Probe[CpuSamples]):
    """The loop that the agent runs, and keeps the samples of until it is asked."""

    name = "cpu"
    columns = COLUMNS
    rows = CpuSamples
    series = (
        Speed(
            Pane("cpu", "CPU speed inside the guest", "events/s"),
            "green",
            reading="CPU speed",
            done="events",
            took="duration_ns",
            guest_clock="guest_monotonic_ns",
        ),
    )
    subject = "CPU speed"
    absent = "not measured in this run"

    def described(self, probing: Probing) -> dict[str, object]:
        """As an interval."""
        return {"CPU loop interval ms": probing.cpu_interval_ms}

    async def clear(self, agent: AgentClient) -> None:
        """No loop."""
        await agent.cpu_stop()

    async def begin(self, agent: AgentClient, probing: Probing, place: Place) -> None:
        """The loop turns."""
        if probing.cpu_interval_ms:
            await agent.cpu_start(interval_ms=probing.cpu_interval_ms)

    async def finish(self, agent: AgentClient, path: Path) -> None:
        """End the loop and take its samples."""
        rows = [",".join(COLUMNS)]
        await agent.cpu_stop()
        last, after, patience = 1, 0, Deadline.after(READ_S)  # a guest may say that there is always more
        while after < last and not patience.passed:
            batch = await agent.cpu_read(after)
            if not batch.samples:
                break
            last, after = batch.last, batch.samples[-1].index
            rows += [f"{s.monotonic_ns},{s.cpu_ns},{s.events}" for s in batch.samples]
        try:
            path.write_text("\n".join([*rows, ""]))
        except OSError as error:
            raise paths.cannot_write(error, path.parent) from error


PROBE = CpuProbe()
