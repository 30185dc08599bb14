"""What a lab asks of a kind of host. Each kind has a module of its own that keeps to this; ``lab.hosts`` picks it."""

from __future__ import annotations

import time
from collections.abc import Collection
from enum import StrEnum
from typing import Literal, Protocol, Self

import msgspec

from limosa.errors import LimosaError
from limosa.hosts.host import Host, off

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


class Seen(msgspec.Struct, frozen=True):
    """One host as its kind found it: on, then with *host*; off or without an answer, then with the *error* that whoever
    wants to use it gets."""

    state: HostState
    host: Host | None = None
    error: LimosaError | None = None
    way_back: str = ""
    """The command that has one that is off in the lab again."""
    visited: Host | None = None
    """One that answers, and has nothing by which the lab is known there: what was launched may be looked for on it."""

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
