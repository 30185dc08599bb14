"""What a person does with the lab's guests beside starting, moving and stopping them: ``lab.guests``."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from limosa import paths
from limosa.errors import LimosaError, SpecError, StateError
from limosa.events import Event
from limosa.lab import copies, guest_access, guest_views, log_files, qemu_launch
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHosts
from limosa.spec import resolved

if TYPE_CHECKING:
    from limosa.guest.agent.client import AgentClient
    from limosa.guest.screen.camera import Camera
    from limosa.lab.foresight import Prediction
    from limosa.lab.prospect import Prospect
    from limosa.migration.settings import Settings
    from limosa.prediction.working_set import WorkingSet


class GuestVerbs:
    """The verbs on guests of one lab that change nothing of it."""

    def __init__(self, hosts: LabHosts) -> None:
        self._hosts = hosts

    def __getitem__(self, name: str) -> resolved.Guest:
        """A guest's spec. Raises SpecError for a name that the lab does not have.

        Example::

            print(lab.guests["guest1"].cpus)
        """
        if name not in self._hosts.lab.guests:
            raise qemu_launch.unknown_guest(self._hosts.lab, name)
        return self._hosts.lab.guests[name]

    def _handle(self, name: str) -> LabGuest:
        """A guest of a lab that is up, with what is on record of it now. Raises SpecError or StateError."""
        spec = self[name]
        self._hosts.the_client()
        return LabGuest(self._hosts, spec)

    @property
    def first(self) -> str:
        """The name of the guest that is meant when none is named. Raises SpecError for a lab without guests.

        Example::

            print(lab.guests.first)
        """
        lab = self._hosts.lab
        for name in lab.guests:
            return name
        raise SpecError(
            f"lab {lab.name} has no guests", hint=f"add one to the lab file, see {paths.document('lab-file.md')}"
        )

    async def where(self, guest: str) -> str:
        """The name of the host that runs *guest*.

        Raises SpecError, StateError when it does not run, and DecisionError when it runs twice.

        Example::

            print(await lab.guests.where("guest1"))
        """
        return await copies.host_of(self._handle(guest))

    async def qemu(self, guest: str) -> copies.Copy:
        """The guest's QEMU with both monitors; the caller closes it.

        Raises StateError when it does not run or another command has its monitors.

        Example::

            copy = await lab.guests.qemu("guest1")
            print(copy.host, copy.status, await copy.qemu.control.execute("query-version"))
            await copy.qemu.close()
        """
        return await copies.running(self._handle(guest))

    @asynccontextmanager
    async def agent(self, guest: str) -> AsyncIterator[AgentClient]:
        """A conversation with the agent inside *guest*, wherever it runs; docs/agent.md has its commands.

        Raises SpecError, StateError when the guest does not run, LimosaError when no agent answers.

        Example::

            async with lab.guests.agent("guest1") as agent:
                print((await agent.hello()).memory_bytes >> 20, "MiB")
        """
        host = self._hosts.host(await self.where(guest))
        client = await guest_access.connect_agent(host, guest)
        try:
            yield client
        finally:
            await client.close()

    async def answers(self, guest: str) -> bool:
        """Whether a network stack answers at the guest's address, with or without an agent.

        Raises SpecError, and StateError for a lab that is down.

        Example::

            print(await lab.guests.answers("guest1"))
        """
        return await guest_access.answers(self._hosts, self[guest])

    async def plan(self, guest: str, host: str, settings: Settings | None = None) -> Prospect:
        """What moving *guest* to *host* would do, checked on both; nothing is changed. ``Prospect.refusal`` is what the
        move would be refused with.

        Raises SpecError (no such guest or host), StateError where the guest does not run, BusyError while another
        command holds it, and DecisionError where a person has to say which copy it is.

        Example::

            prospect = await lab.guests.plan("guest1", "host2")
            for finding in prospect.findings:
                print(finding.severity, finding.sentence, finding.fix)
        """
        from limosa.lab import prospect
        from limosa.migration.settings import Settings

        spec = self[guest]
        if host not in self._hosts.lab.hosts:
            raise qemu_launch.unknown_host(self._hosts.lab, host)
        self._hosts.the_client()
        async with self._hosts.locked("limosa migrate --plan", guest):
            found = LabGuest(self._hosts, spec, host)
            await found.meet()
            return await prospect.of(found, host, settings or Settings())

    async def plans(self) -> list[Prospect]:
        """What ``plan`` says of each guest that runs, and each other host of the lab; of a lab that is down nothing.

        What keeps one from being looked at, as another command at work on the guest, is its only finding.

        Example::

            print([(p.guest, p.target) for p in await lab.guests.plans() if p.refusal is None])
        """
        from limosa.lab.prospect import unseen

        found: list[Prospect] = []
        for name in self._hosts.lab.guests if self._hosts.client is not None else ():
            record = LabGuest(self._hosts, self[name]).record
            for host in self._hosts.lab.hosts if record is not None else ():
                if record is None or host == record.host:
                    continue
                try:
                    found.append(await self.plan(name, host))
                except LimosaError as error:
                    found.append(unseen(name, record.host, host, error))
        return found

    async def working_set(self, guest: str) -> WorkingSet:
        """How much memory *guest* dirties within any time, with 90 % intervals, and how much of it is zeros: looked at
        for some 12 s from outside (some 0.5 s of a processor, 2 % of the host at most), where that may not be
        by QMP, or by the passes of a move under way. What is written anew with the same bytes is seen by the last only.

        Raises SpecError, StateError when it does not run, BusyError while another command holds it and its memory may
        not be read, LimosaError where it cannot be told.

        Example::

            memory = await lab.guests.working_set("guest1")
            print(memory.how, memory.zero_share, f"{memory.dirtied_bytes(0.3) / 2**20:.1f} MiB within 300 ms")
        """
        from limosa.lab import guest_memory

        return await guest_memory.working_set(self._handle(guest))

    async def predict(
        self,
        guest: str,
        host: str,
        allowed: Settings | None = None,
        *,
        link_bytes_per_s: float | None = None,
        also: Sequence[str] = (),
    ) -> Prediction:
        """What moving *guest* to *host* would take by each of the usual ways, and by the policies named in *also*:
        whether it completes, how long it takes, what users notice. Nothing is changed; its memory is looked at for
        some 12 s. *allowed*: what policies may do. *link_bytes_per_s*: what the link takes of the stream; None: as the
        lab file says.

        Raises SpecError for a host that there is not, or where nobody says what the link takes; StateError for a guest
        that does not run; LimosaError where its memory cannot be looked at.

        Example::

            foreseen = await lab.guests.predict("guest1", "host2", link_bytes_per_s=110e6)
            for way in foreseen.ways:
                print(way.way.name, way.forecast.completes, way.forecast.total_s, way.outage_s, way.remark)
        """
        from limosa.lab import foresight
        from limosa.migration.settings import Settings as Allowed

        return await foresight.predict(self._handle(guest), host, allowed or Allowed(), link_bytes_per_s, also)

    def follow(self, guest: str) -> AsyncIterator[Event]:
        """What the command that moves *guest* has done and does, until that is over: phases, looks, what QEMU is told.
        QEMU is not asked for it, and where that command has ended, the last phase is none of the final ones.

        Raises SpecError for a guest that there is not, StateError when no migration of it is under way.

        Example::

            for moving in []:  # guests that other commands move
                async for event in lab.guests.follow(moving):
                    print(event)
        """
        from limosa.lab import under_way

        return under_way.follow(self._hosts.directory, self[guest].name)

    def console_sockets(self, guest: str) -> AsyncIterator[socket.socket]:
        """Connections to the guest's serial console: one where it runs, and another each time that it has moved. They
        do not block; whoever takes one closes it.

        Raises StateError when the guest does not run at first; later its end ends the connections.

        Example::

            async for console in lab.guests.console_sockets("guest1"):
                with console:
                    await asyncio.get_running_loop().sock_sendall(console, b"\\r")
                    print(await asyncio.get_running_loop().sock_recv(console, 1000))
                break
        """
        return guest_views.serial_sockets(self._hosts, self[guest])

    async def said(self, guest: str) -> str:
        """What is kept of the guest's console on the host where it runs: its end, as text.

        Raises SpecError for a guest that there is not, StateError when it runs nowhere.

        Example::

            print((await lab.guests.said("guest1"))[-1000:])
        """
        await self._hosts.meet()
        host = self._hosts.named(await self.where(guest))
        kept = await host.port.run(["tail", "-c", str(log_files.LIMIT_BYTES), "--", host.serial_log(guest)])
        return kept.stdout.decode(errors="replace")

    def screens(self, guest: str) -> AsyncIterator[Camera]:
        """Connections to the guest's screen: one where it runs, and another each time that it has moved; whoever takes
        one closes it.

        Raises StateError for a guest without a screen or that does not run, BusyError when somebody else looks at it.

        Example::

            async for screen in lab.guests.screens("guest1"):
                Path("screen.png").write_bytes(await screen.png())
                await screen.close()
                break
        """
        return guest_views.cameras(self._hosts, self[guest])

    async def explain(self, guest: str) -> list[tuple[str, str]]:
        """The guest's real command line, option by option, each with its purpose.

        A running guest's is the one it was started with; for a stopped one everything is prepared first. Raises
        SpecError, and what ``start`` raises for a guest that cannot be prepared.

        Example::

            for option, purpose in await lab.guests.explain("guest1"):
                print(option, "#", purpose)
        """
        found = self._handle(guest)
        await self._hosts.meet()
        from limosa.lab import preparation
        from limosa.qemu import argv, purpose

        record = found.known_record() or await preparation.prepare(self._hosts, found.spec)
        host = self._hosts.named(record.host)
        known = await host.offer(record.accel)
        launch_id = next((copy.launch for copy in record.copies if copy.host == record.host), "")
        planned = qemu_launch.plan(self._hosts.lab, found.spec, record, host, known, launch_id)
        return [(planned.qemu, f"The QEMU of {host.name}."), *purpose.explain(argv.arguments(planned))]

    def ssh(self, guest: str, command: Sequence[str] = ()) -> list[str]:
        """The local command line that logs in to *guest*, by the lab's key and with strict host keys. *command* is run
        there; without one it is a session.

        Raises SpecError, and StateError for a guest without a network or an SSH server.

        Example::

            subprocess.run(lab.guests.ssh("guest1", ["uname", "-sr"]), check=True)
        """
        spec = self[guest]
        if not spec.address:
            raise StateError(f"guest {guest} has no network", hint=f"limosa console {guest}")
        # Who logs in by the lab's key to an address that is known needs no record.
        found = LabGuest(self._hosts, spec) if spec.image_kind.boots_disk else None
        record = found.known_record() if found else None
        if found is not None and record is None:
            raise copies.not_running(found)
        if record and record.own_disk and not record.own_disk.user:
            raise StateError(f"guest {guest} runs no SSH server", hint=f"limosa console {guest}")
        words = guest_access.ssh_words(self._hosts.directory.keys, spec, record)
        return self._hosts.the_client().interactive([*words, *command])
