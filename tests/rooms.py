"""A kind of host that only tests have: rooms of this machine, each a folder with the processes that run for it."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import msgspec

from limosa import tasks
from limosa.errors import LimosaError, StateError
from limosa.hosts import catalogue
from limosa.hosts.host import Host
from limosa.hosts.kind import LinkState, Seen, Surroundings
from limosa.hosts.local import LocalHost
from limosa.spec import host_kinds
from limosa.spec.host_kinds import HostKind

NAME = "rooms"


def add() -> None:
    """The whole of what it takes: a row for what it is, and a row for where its package is."""
    host_kinds.KINDS[NAME] = HostKind(name=NAME, made=False, interface="eth", keys=("links",))
    catalogue.PACKAGES[NAME] = __name__


def of(name: str, surroundings: Surroundings) -> Rooms:
    """What is responsible for the lab's hosts of this kind."""
    return Rooms(name, surroundings)


class Taken(msgspec.Struct, frozen=True):
    """The kind's part of the record."""

    rooms: tuple[str, ...] = ()


class Rooms:
    """Implements Kind."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        self._part, self._folder = surroundings.part(name), surroundings.path / NAME
        self._hosts = {
            host: LocalHost(host, str(self._folder / host), surroundings.events) for host in surroundings.hosts(name)
        }

    async def check(self) -> None:
        """There is always room."""

    async def find(self, names: Collection[str]) -> dict[str, Seen]:
        """By the record and by the folder."""
        taken = self._part.read(Taken).rooms
        there = {name for name in names if name in taken and Path(self._hosts[name].runtime_directory).is_dir()}
        return {name: Seen.on(self._hosts[name]) if name in there else Seen.off(name) for name in names}

    async def make(self, name: str) -> Host:
        """Its folder."""
        Path(self._hosts[name].runtime_directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._part.write(Taken(tuple(sorted({*self._part.read(Taken).rooms, name}))))
        return self._hosts[name]

    async def visit(self, name: str) -> Host | None:
        """One that is not there is made when it is needed."""
        return (await self.find([name]))[name].host

    async def ended(self, name: str) -> bool:
        """Nothing runs in a room that is not there."""
        return await self.visit(name) is None

    async def power_off(self, name: str) -> None:
        """End all in it."""
        await self._hosts[name].end_spawned(grace_s=0)
        shutil.rmtree(self._hosts[name].runtime_directory)

    async def power_on(self, name: str) -> Host:
        """As new."""
        return await self.make(name)

    async def set_links(self, name: str, state: LinkState) -> None:
        """Refused."""
        raise StateError(f"{name} is a room of this machine, and has no links of its own")

    async def remove(self) -> dict[str, LimosaError]:
        """End all in all rooms."""
        for name in self._hosts:
            if not await self.ended(name):
                await self.power_off(name)
        self._part.clear()
        return {}

    async def left(self) -> list[str]:
        """The folders."""
        return [str(path) for path in self._folder.iterdir()] if self._folder.exists() else []

    def remains(self, name: str) -> str:
        """Its folder."""
        return self._hosts[name].runtime_directory

    async def close(self) -> None:
        """Hang up."""
        await tasks.each(host.close() for host in self._hosts.values())
