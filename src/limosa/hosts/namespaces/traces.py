"""What of a lab runs on this machine, whatever its record and its description say: found, waited for, ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from limosa.hosts.host import CLIENT
from limosa.hosts.kind import part_of
from limosa.hosts.namespaces import place
from limosa.hosts.namespaces.first_process import Keeper
from limosa.hosts.namespaces.marks import end_marked, is_first, is_rootless, marked
from limosa.spec import host_kinds

_NAME = host_kinds.NAMESPACES.name


class Processes(msgspec.Struct, frozen=True):
    """The kind's part of the record: its processes, by pid as seen here; each is proved on use to be still the one
    meant."""

    rootless: bool = False
    ephemeral: bool = False
    """Whether the fabric ends with whoever made it."""
    outer_pid: int = 0
    """The ``unshare`` that waits for the fabric's first process."""
    client_pid: int = 0
    hosts: dict[str, int] = {}


class FabricTraces:
    """Of one lab; implements Traces. *path* is its state directory, *recorded* tells the kinds' parts of its record."""

    def __init__(self, path: Path, recorded: Callable[[], Mapping[str, msgspec.Raw]]) -> None:
        self._path, self._recorded, self._mark = path, recorded, os.path.realpath(path)

    def require_here(self) -> None:
        """Raise StateError where the lab runs, or may run, in another place than this one, and can be commanded there
        alone."""
        place.require_here(self._path, lambda: part_of(self._recorded(), _NAME, Processes).client_pid)

    def any(self) -> bool:
        """Whether something says that the lab runs: that it was made in some place, or what is seen here."""
        return place.file(self._path).exists() or bool(self.processes())

    def processes(self) -> list[int]:
        """The pids of what keeps its hosts."""
        return marked(self._mark)

    def made_s(self) -> float | None:
        """When its fabric was: the file that says where is written then."""
        try:
            return place.file(self._path).stat().st_mtime
        except OSError:
            return None

    async def end(self) -> None:
        """End all of it. Raises LimosaError."""
        await end_marked(self._mark)

    def forget(self) -> None:
        """Nothing of it runs any more."""
        place.leave(self._path)

    def observed(self) -> tuple[bool, dict[str, msgspec.Raw]] | None:
        """What the processes themselves tell: whether the lab is ephemeral, and the kinds' parts of a record that is
        lost. None for a lab that is down."""
        if (seen := observed(self._mark)) is None:
            return None
        return seen.ephemeral, {_NAME: msgspec.Raw(msgspec.json.encode(seen))}


def observed(mark: str) -> Processes | None:
    """What the processes themselves tell of a lab; what a killed command left half made does not count.

    Which hosts were off or cut on purpose is not to be seen.
    """
    keepers: dict[str, Keeper] = {}
    outer, ephemeral = 0, False
    for pid in marked(mark):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
            name = words[words.index("--host") + 1]
            if Path(words[0]).name != "unshare":
                if is_first(pid):
                    keepers[name] = Keeper(pid, name, mark)
            elif name == CLIENT:
                outer, ephemeral = pid, "--lifeline" in words
    client = keepers.pop(CLIENT, None)
    hosts = {name: keeper.pid for name, keeper in keepers.items() if keeper.whole()}
    if client is None or not (hosts or client.whole()):  # a fabric is whole before the first host is made in it
        return None
    return Processes(is_rootless(client.pid), ephemeral, outer, client.pid, hosts)
