"""What a lab asks of a kind of host, and what it tells it. Each kind has a package; ``catalogue`` knows where."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol, Self, TypeVar

import msgspec

from limosa import untrusted
from limosa.errors import LimosaError
from limosa.events import Events
from limosa.hosts.host import Host, off
from limosa.spec import resolved

T = TypeVar("T", bound=msgspec.Struct)

LOGINS = 16
"""How many hosts of a lab are logged in to at a time: an sshd on the way (a jump host) drops who comes in a crowd."""

LinkState = Literal["up", "down"]


class HostState(StrEnum):
    """What is known of a host. The text is what people read, and what JSON says."""

    ON = "on"
    CUT = "cut"
    """On, and its links were taken down on purpose."""
    OFF = "off"
    """Nothing of the lab's runs there, for certain: it has ended, was never made, or answers and knows of no lab."""
    NO_ANSWER = "no answer"
    """Nobody knows: it may be off, or go on with its guests."""


class Seen:
    """One host as its kind found it: on, then with *host*; off or without an answer, then with the *error* that whoever
    wants to use it gets.

    *way_back* is the command that has one that is off in the lab again. *visited* is one that answers, and has nothing
    by which the lab is known there: what was launched may be looked for on it.
    """

    def __init__(
        self,
        state: HostState,
        host: Host | None = None,
        error: LimosaError | None = None,
        way_back: str = "",
        visited: Host | None = None,
    ) -> None:
        self.state, self.host, self.error, self.way_back, self.visited = state, host, error, way_back, visited

    @classmethod
    def on(cls, host: Host) -> Self:
        """It is made and on."""
        return cls(HostState.ON, host)

    @classmethod
    def off(cls, name: str) -> Self:
        """It is off, and limosa can switch it on."""
        return cls(HostState.OFF, None, off(name), f"limosa host restore {name}")

    @classmethod
    def silent(cls, error: LimosaError) -> Self:
        """It does not answer, or lets nobody in: *error* says why."""
        return cls(HostState.NO_ANSWER, None, error)


class Silence:
    """The hosts that did not answer a moment ago. One command looks several times, and waits for them once."""

    RECENTLY_S = 10.0

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, LimosaError]] = {}

    def keep(self, name: str, error: LimosaError) -> Seen:
        """It has just not answered."""
        self._heard[name] = time.monotonic(), error
        return Seen.silent(error)

    def recent(self, name: str) -> LimosaError | None:
        """Why it did not answer, if that was just now."""
        since_s, error = self._heard.get(name, (float("-inf"), None))
        return error if time.monotonic() - since_s < self.RECENTLY_S else None


class KindsRecord(Protocol):
    """The lab's record, as far as the kinds have parts in it."""

    kinds: dict[str, msgspec.Raw]


BEFORE = ""
"""Under this name a record of a version that had no parts is kept whole: each kind finds in it what was its own."""


class Part:
    """A kind's own part of the lab's record, which nobody else reads. It is the lab that writes the record to disk."""

    def __init__(self, name: str, record: KindsRecord) -> None:
        self._name, self._record = name, record

    def read(self, shape: type[T]) -> T:
        """What is recorded; an empty one where there is nothing, or nothing that can be understood."""
        kinds = self._record.kinds
        return part_of(kinds, self._name, shape)

    def write(self, value: msgspec.Struct) -> None:
        """Have the record say so."""
        others = {name: part for name, part in self._record.kinds.items() if name not in {self._name, BEFORE}}
        self._record.kinds = {**others, self._name: msgspec.Raw(msgspec.json.encode(value))}

    def clear(self) -> None:
        """Nothing of the kind is anywhere any more."""
        self._record.kinds = {n: part for n, part in self._record.kinds.items() if n not in {self._name, BEFORE}}


def part_of(kinds: Mapping[str, msgspec.Raw], name: str, shape: type[T]) -> T:
    """The part of the kind *name* in a record."""
    with contextlib.suppress(msgspec.DecodeError):
        return untrusted.decode(bytes(kinds.get(name) or kinds.get(BEFORE) or b"{}"), type=shape)
    return shape()


class Surroundings:
    """What a kind is told of the lab whose hosts it has.

    *path* is the lab's state directory; *shown* is where storage of the kind ``directory`` is on this machine, by its
    name; *rootless*: whether namespaces that are made take a user namespace.
    """

    def __init__(
        self,
        lab: resolved.Lab,
        path: Path,
        shown: Mapping[str, Path],
        record: KindsRecord,
        events: Events,
        *,
        rootless: bool,
    ) -> None:
        self.lab, self.path, self.shown, self.events, self.rootless = lab, path, shown, events, rootless
        self._record = record

    def hosts(self, kind: str) -> dict[str, resolved.Host]:
        """The lab's hosts of one kind, by name."""
        return {name: host for name, host in self.lab.hosts.items() if host.kind == kind}

    def part(self, kind: str) -> Part:
        """A kind's own part of the record."""
        return Part(kind, self._record)

    @property
    def log(self) -> Path:
        """Where the lab's logs are on this machine."""
        return self.path / "log"

    @property
    def real_path(self) -> str:
        """The one real path of the lab's directory, however it was reached: it marks processes of this machine."""
        return os.path.realpath(self.path)

    @property
    def mark(self) -> str:
        """What the lab's things bear on hosts with a system of their own. Versions without ids took the directory."""
        return self.lab.mark or self.real_path


class Kind(Protocol):
    """All hosts of one kind in one lab. Every method raises LimosaError's children only.

    What is made bears the lab's mark; what does not bear it is never touched.
    """

    async def check(self) -> None:
        """Raise MachineError where no host of the kind can be had here and now, so that nothing is begun."""
        ...

    async def find(self, names: Collection[str]) -> dict[str, Seen]:
        """Those of the kind's hosts as they are now; no other is asked, and none is connected to twice.

        They are asked at once, of which at most ``LOGINS`` log in at a time. One that does not answer is neither on
        nor off.
        """
        ...

    async def make(self, name: str) -> Host:
        """Make a host that is missing, or connect to its machine; networks and storage come after this.

        A half-made one is taken away again.
        """
        ...

    async def visit(self, name: str) -> Host | None:
        """A host to look at, in the lab or not yet: nothing is made, claimed or changed.

        None for one that ``make`` brings into being, when nothing is in its way. Raises LimosaError when something is.
        """
        ...

    async def ended(self, name: str) -> bool:
        """Whether a host is off for certain, and nothing runs there: asked now, as one may have gone off meanwhile."""
        ...

    async def power_off(self, name: str) -> None:
        """As pulling the plug. Raises StateError where that is not limosa's to do."""
        ...

    async def power_on(self, name: str) -> Host:
        """Undo ``power_off``."""
        ...

    async def set_links(self, name: str, state: LinkState) -> None:
        """Take down all links of a host that is on, or up again. Raises StateError where that is not limosa's to do."""
        ...

    async def remove(self) -> dict[str, LimosaError]:
        """Take away all that bears the lab's mark, recorded or not, wherever that can be done.

        By host, why something may remain there.
        """
        ...

    async def left(self) -> list[str]:
        """What bears the lab's mark still on hosts that answer, a line each: empty after ``remove``."""
        ...

    def remains(self, name: str) -> str:
        """What may remain on a host that is given up, in words by which it can be found there."""
        ...

    async def close(self) -> None:
        """Let go of connections; hosts and guests go on."""
        ...


class FabricKind(Kind, Protocol):
    """A kind whose hosts are joined by a fabric that is made for them on this machine: in it the client lives."""

    @property
    def client(self) -> Host | None:
        """The fabric as a host; None while it is not there, or was not looked for."""
        ...

    @property
    def names(self) -> list[str]:
        """The lab's hosts of this kind."""
        ...

    async def make_client(self) -> Host:
        """Make the fabric anew. It does not count before ``keep_client``: what a killed command left is made again."""
        ...

    def keep_client(self) -> None:
        """The fabric has all that it was to get. On record when the lab writes its record next."""
        ...

    async def join_bridge(self, machine: Host, network: str) -> None:
        """Join the fabric's *network* with its bridge on this *machine*. Raises MachineError."""
        ...

    def hold(self) -> None:
        """The fabric is to end with this process, even when that is killed."""
        ...

    def let_go(self) -> None:
        """Undo ``hold``: a fabric that was made under it ends now."""
        ...


class Traces(Protocol):
    """What runs of a lab on this machine, also where neither its record nor its description can be read."""

    def require_here(self) -> None:
        """Raise StateError where the lab runs, or may run, in another place, and can be commanded from there alone."""
        ...

    def any(self) -> bool:
        """Whether something says that the lab runs: that it was made in some place, or what is seen here."""
        ...

    def processes(self) -> list[int]:
        """The pids of what keeps its hosts."""
        ...

    def made_s(self) -> float | None:
        """When what runs was made, in seconds since the epoch; None where nothing here tells."""
        ...

    async def end(self) -> None:
        """End all of it. Raises LimosaError."""
        ...

    def forget(self) -> None:
        """Nothing of it runs any more."""
        ...

    def observed(self) -> tuple[bool, dict[str, msgspec.Raw]] | None:
        """What the processes themselves tell: whether the lab is ephemeral, and the kinds' parts of a record that is
        lost. None for a lab that is down."""
        ...
