"""One guest of a lab as one command has it: resolved once, under its lock, and handed down.

What goes down the layers is this handle: nobody below looks the guest's name up again. Its record is read once and
written when it changes, so what one part of a command put on record the next one sees.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from limosa.errors import LimosaError, StateError
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.record import GuestRecord, Launched
from limosa.migration import journal
from limosa.migration.plan import MigrationPlan
from limosa.qemu.launches import Running
from limosa.spec import resolved


class LabGuest:
    """A guest, what is on record of it, its migration's journal, and the hosts that it may be on."""

    def __init__(self, hosts: LabHosts, spec: resolved.Guest, *also: str) -> None:
        """*also*: hosts on which the guest is looked for besides those that may have it."""
        self.hosts, self.spec = hosts, spec
        self.record: GuestRecord | None = None
        """None for a guest that is stopped, and for one whose record cannot be read: that hides nothing that runs."""
        self.damage: StateError | None = None
        """What is wrong with a record that cannot be read."""
        try:
            self.record = hosts.directory.guest_record(spec.name)
        except StateError as error:
            self.damage = error
        self.places = self._places(also)
        """The hosts on which it is looked for, the recorded one first."""

    def _places(self, also: Collection[str]) -> list[str]:
        """Each copy is on record before its launch until it was seen gone, so no other host than those named has one:
        by the record, by an unfinished migration, or in what a person gave up. Where one of these cannot be read, and
        for a guest without a record, all that may hold anything of the lab's.
        """
        named = self.may_be_on()
        given_up = self.hosts.directory.given_up_copies(self.name)
        if self.record is None or given_up is None:
            named |= {name for name in self.hosts.lab.hosts if self.hosts.may_hold(name)}
        else:
            named |= {copy.host for copy in given_up} | {self.record.host}
        first = self.record.host if self.record else ""
        names = [name for name in self.hosts.lab.hosts if name in named or name in also]
        return sorted(names, key=lambda name: name != first)

    def widen(self) -> list[str]:
        """For a guest that is not where it is on record: somebody may have moved it without us. It is looked for on all
        hosts that may hold anything of the lab's from now on; those that are new. None while one of the others does
        not answer: nobody knows that it is not there.
        """
        if any(self.hosts.doubtful(name) for name in self.places):
            return []
        names = [name for name in self.hosts.lab.hosts if name not in self.places and self.hosts.may_hold(name)]
        self.places = [*self.places, *names]
        return names

    async def meet(self) -> None:
        """Have these hosts asked, unless they were."""
        await self.hosts.meet(self.places)

    @property
    def name(self) -> str:
        """The guest's name: for people, for files and for QEMU."""
        return self.spec.name

    # -- the record ---------------------------------------------------------------------------------------------------

    def known_record(self) -> GuestRecord | None:
        """The record. Raises StateError for one that cannot be read."""
        if self.damage is not None:
            raise self.damage
        return self.record

    def save(self, record: GuestRecord) -> None:
        """Put on record what the guest was started with and where copies of it may be. Raises MachineError."""
        self.record, self.damage = record, None
        self.hosts.directory.save_guest(self.name, record)

    def save_if_possible(self, record: GuestRecord) -> None:
        """Write where the guest is. A disk that does not take it is no failure: its copies are looked for."""
        try:
            self.save(record)
        except LimosaError as error:
            told = f"where {self.name} is now was not recorded: {error.message}"
            self.hosts.events.note(told, level="warning")

    def forget(self) -> None:
        """No copy of the guest exists any more."""
        self.record, self.damage = None, None
        self.hosts.directory.forget_guest(self.name)

    def on_record(self) -> list[Launched]:
        """The copies that were not seen gone. Where the record cannot be read, there may be one on any host."""
        if self.damage is not None:
            return [Launched(name, "") for name in self.hosts.lab.hosts]
        return list(self.record.copies) if self.record else []

    def strike(self, left: Sequence[Launched]) -> None:
        """Have the record name the copies that are *left*; without any it is removed: the guest is stopped.

        A disk that takes no change is no harm: whoever needs it looks again.
        """
        try:
            if not left:
                self.forget()
            elif self.record is not None and len(left) < len(self.record.copies):
                self.record.copies = tuple(left)
                self.save(self.record)
        except (LimosaError, OSError) as error:
            told = f"that copies of {self.name} are gone was not recorded: {error}"
            self.hosts.events.note(told, level="warning")

    def give_up(self, host: str) -> bool:
        """Strike out what is on record of *host*, by a person's word; return whether anything was."""
        record = self.record
        if record is None or all(copy.host != host for copy in record.copies):
            return False
        if left := tuple(copy for copy in record.copies if copy.host != host):
            record.copies = left
            self.save(record)
        else:
            self.hosts.directory.give_up_guest(self.name)
            self.record = None
        return True

    def take_back(self, found: Sequence[tuple[str, Running]]) -> None:
        """Put on record again what was given up and is *found* all the same, by host. For whoever holds the lock."""
        record = self.hosts.directory.given_up(self.name)
        if record is None or self.on_record():
            return
        back = [known for known in record.copies for host, it in found if host == known.host and known.is_it(it)]
        if back:
            record.host, record.copies = back[0].host, tuple(back)
            self.save(record)
            self.hosts.events.note(f"{self.name} had been given up, and is there on {record.host}", level="warning")

    # -- a migration --------------------------------------------------------------------------------------------------

    def unfinished(self) -> journal.Entry | None:
        """Where an interrupted migration stood. Raises DecisionError when its journal is damaged."""
        return journal.unfinished(self.hosts.directory.journal(self.name), self.name, self.hosts.lab.hosts)

    def migration_so_far(self) -> list[journal.Entry]:
        """Every step of a migration that has not ended; empty when there is none. Raises DecisionError as above."""
        return journal.read(self.hosts.directory.journal(self.name)) if self.unfinished() is not None else []

    def new_journal(self, source: str, target: str, plan: MigrationPlan | None = None) -> journal.Journal:
        """The journal of a migration from *source* to *target*, which is to begin as *plan* says, or has begun."""
        return journal.Journal(self.hosts.directory.journal(self.name), self.name, source, target, plan)

    def may_be_on(self) -> set[str]:
        """The hosts that may have a copy, by the record and by an unfinished migration."""
        found = {copy.host for copy in self.on_record()}
        try:
            entry = self.unfinished()
        except LimosaError:
            return found | self.hosts.lab.hosts.keys()
        return found | ({entry.source, entry.target} if entry else set())

    @property
    def busy(self) -> bool:
        """Whether a command holds the guest's lock at this moment."""
        return self.hosts.directory.busy(self.name)
