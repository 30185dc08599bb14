"""What a lab asks of a kind of host. Each kind has a module of its own that keeps to this; ``lab.hosting`` picks it."""

from __future__ import annotations

from typing import Protocol

from limosa.hosts.host import Host


class Kind(Protocol):
    """All hosts of one kind in one lab. Every method raises LimosaError's children only.

    What is made bears the lab's mark; what does not bear it is never touched.
    """

    async def check(self) -> None:
        """Raise MachineError where no host of the kind can be had here and now, so that nothing is begun."""
        ...

    async def find(self) -> dict[str, Host]:
        """The hosts that are made and on now, by name. A machine that does not answer is not on."""
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
        """Whether it is sure that a host is off and nothing runs there; one that only does not answer is not."""
        ...

    async def power_off(self, name: str) -> None:
        """As pulling the plug. Raises StateError where that is not limosa's to do."""
        ...

    async def power_on(self, name: str) -> Host:
        """Undo ``power_off``."""
        ...

    async def remove(self) -> None:
        """Take away all that bears the lab's mark, recorded or not."""
        ...

    async def left(self) -> list[str]:
        """What bears the lab's mark still, a line each: empty after ``remove``."""
        ...

    async def close(self) -> None:
        """Let go of connections; hosts and guests go on."""
        ...
