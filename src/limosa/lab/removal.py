"""Taking a lab away: all that bears its mark, on every host that answers; then the proof that nothing is left."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from limosa.errors import LimosaError
from limosa.hosts.kind import Kind
from limosa.lab.lab_hosts import LabHosts
from limosa.network import ip


class Removal:
    """Takes the hosts of one lab away. Whoever uses it holds the lab's lock."""

    def __init__(self, hosts: LabHosts) -> None:
        self.hosts = hosts

    async def run(self, given_up: Collection[str] = ()) -> dict[str, LimosaError]:
        """Take away all that bears the lab's mark, recorded or not; then prove that nothing is left.

        By host, why something may be left there, which the record keeps; nobody waits for what is *given_up*.
        Raises LimosaError when something is left where it could have been taken away.
        """
        kinds: list[Kind] = [*self.hosts.elsewhere_kinds(), self.hosts.fabric]
        await self.hosts.ask_all()
        self.hosts.on = self.hosts.there(self.hosts.elsewhere)
        for name in self.hosts.on:
            await self._remove_placed(name)
        for name in self.hosts.on:
            await self._strip(name)
        for name in self.hosts.bridged_networks():
            await ip.part_bridge(self.hosts.this_machine(), self.hosts.lab, name)
        failures = dict[str, LimosaError]()
        for kind in kinds:
            failures |= await kind.remove()
        self.hosts.client, self.hosts.on = None, {}
        left = [line for kind in kinds for line in await kind.left()]
        if left and not failures:
            raise LimosaError(f"lab {self.hosts.lab.name} is not wholly gone: {', '.join(left)} is left")
        return self._remaining(failures, given_up)

    def _remaining(self, failures: dict[str, LimosaError], given_up: Collection[str]) -> dict[str, LimosaError]:
        """What the lab's record is about from now on."""
        strange = [name for name in self.hosts.record.claimed or () if name not in self.hosts.lab.hosts]
        failures |= {name: LimosaError(f"host {name} is not in the lab's description") for name in strange}
        remaining = {name: error for name, error in failures.items() if name in strange or self.hosts.may_hold(name)}
        for name in given_up:
            if error := remaining.pop(name, None):
                told = f"{name} is given up ({error.message}): there may remain {self.remains(name)}"
                self.hosts.events.note(told, level="warning")
        record = self.hosts.record
        record.claimed, record.up, record.off, record.cut = sorted(remaining), False, [], []
        return remaining

    def remains(self, name: str) -> str:
        """What may remain on a host, in words; of one that is not in the description nobody can say more."""
        return self.hosts.kind(name).remains(name) if name in self.hosts.lab.hosts else "what the lab had there"

    async def _remove_placed(self, name: str) -> None:
        """What is put on a storage anew at each start: disks stay, kernels and a guest's own keys do not."""
        if files := [path for guest in self.hosts.lab.guests for path in self.hosts.directory.placed(guest)]:
            with contextlib.suppress(LimosaError):  # another host may be able to
                await self.hosts.on[name].run(["rm", "-f", "--", *files])

    async def _strip(self, name: str) -> None:
        try:
            copies = {guest: self.hosts.directory.known_copies(guest) for guest in self.hosts.lab.guests}
            await self.hosts.setup().strip(self.hosts.on[name], copies)
        except LimosaError as error:
            self.hosts.events.note(f"{name} was not wholly given back: {error.message}", level="warning")
