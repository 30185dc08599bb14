"""What a probe is: one thing that is measured of a guest while something happens to it, in one file of this folder.

The file holds all of it: what the guest does for it, what it sends and takes in the prober, its row type, its columns
in the run, and what the timeline draws. ``registry.PROBES`` lists the probes; nothing else names them all.

A file with a sampler is sent to where the prober runs, and there it has Python's standard library and the modules that
``client_probe.SHARED`` names: so it imports nothing else, but for type checkers. Its module has the probe as ``PROBE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from limosa.probes.arrival import Gap

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from limosa.guest.agent.client import AgentClient
    from limosa.probes.pace import Probing
    from limosa.probes.pane import Series

Rows = TypeVar("Rows")
NEVER_NS = 1 << 63


class Place(NamedTuple):
    """Who measures whom: IPv4 addresses on the network that they share."""

    guest: str
    client: str


class Sampler:
    """A probe at work in the prober: sends, takes, and writes its rows down.

    It is made of its probe's configuration and the path of its file. What is not overridden does nothing.
    """

    def __init__(self) -> None:
        self.due_ns = NEVER_NS
        """When ``act`` is due next (CLOCK_MONOTONIC)."""
        self.gap = Gap()

    @property
    def reading(self) -> list[socket.socket]:
        """Sockets for which ``ready`` is called when there is something to read. One that is drained needs none."""
        return []

    @property
    def writing(self) -> list[socket.socket]:
        """Sockets for which ``ready`` is called when they can be written to."""
        return []

    def forget(self) -> None:
        """It begins now: what came before does not count."""

    def act(self, now_ns: int) -> None:
        """What is due."""

    def ready(self, now_ns: int) -> None:
        """A socket has something to say."""

    def drain(self) -> None:
        """Read all that has arrived. The kernel has stamped it, so this may be late."""

    def flush(self, everything: bool = False) -> None:
        """Append what is settled to the file; *everything*: it is the last time."""

    def report(self) -> dict[str, Any]:
        """Counts so far: fields of ``ProbeReport``."""
        return dict(self.gap.report())


class Probe(Generic[Rows]):
    """One thing that is measured. What a probe does not override it does not need."""

    name: ClassVar[str]
    """Its file in the run is ``samples/NAME.csv``; its counts have this name in ``samples/client.json``."""
    columns: ClassVar[Mapping[str, type]]
    """The file's columns in order, each of int, float or str. Only a cell that was not read is empty."""
    rows: type[Rows]
    """What the file is read as: made of one array a column where all are whole numbers, else of one row's cells."""
    config: ClassVar[Any] = None
    """The NamedTuple that tells the sampler what to do."""
    sampler: ClassVar[type[Sampler] | None] = None
    """What runs in the prober, made of a config and a path; None: it is written down by others."""
    moment: ClassVar[str | None] = None
    """The column that places a row in the run's time (CLOCK_REALTIME, ns)."""
    guest_clock: ClassVar[tuple[str, str] | None] = None
    """The two columns, if it has such, that pair the guest's CLOCK_MONOTONIC with the client's clock."""
    of_migrations: ClassVar[bool] = False
    """Whether a run without migrations has nothing of it."""
    series: ClassVar[tuple[Series, ...]] = ()
    """What the timeline draws: any number of Values, or one of another kind."""
    subject: ClassVar[str] = ""
    absent: ClassVar[str] = ""
    """What the timeline says when it has nothing to draw of it: *subject*, and why."""

    def wanted(self, probing: Probing, place: Place) -> Any:
        """The config for a measurement; None: the prober does nothing for it."""
        return None

    def described(self, probing: Probing) -> dict[str, object]:
        """How often it measures, as it is recorded with the results."""
        return {}

    async def clear(self, agent: AgentClient) -> None:
        """End in the guest what an earlier measurement left there."""

    async def begin(self, agent: AgentClient, probing: Probing, place: Place) -> None:
        """Let the guest do its part."""

    async def finish(self, agent: AgentClient, path: Path) -> None:
        """End the guest's part; what the guest alone knows goes to *path*, the probe's file."""
