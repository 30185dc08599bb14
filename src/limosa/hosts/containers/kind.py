"""The kinds of host ``incus`` and ``lxd``: a lab's hosts are containers, launched for it or adopted.

Rule: what does not bear the lab's mark is never touched. An adopted container is never made and never deleted; what
was added to it is marked, and taken away again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

from limosa import tasks
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, SpecError, StateError
from limosa.events import Events
from limosa.hosts.containers import definition, software
from limosa.hosts.containers.daemon import NOT_FOUND, Daemon, DaemonError, Instance
from limosa.hosts.containers.endpoint import FLAVOURS
from limosa.hosts.containers.host import ContainerHost
from limosa.hosts.host import Host
from limosa.hosts.kind import HostState, LinkState, Seen, Silence, Surroundings
from limosa.network import ip
from limosa.spec import resolved
from limosa.spec.problems import nearest

BOOT_S = 90.0
LOOK_S = 15.0
"""How long a daemon may take to say what it has."""
BUSY_S = 60.0
BUSY = "is busy running"
"""What a daemon says of a container that it is still at work on, for whoever asked and was killed meanwhile."""
RUNTIME_DIRECTORY = "/run/limosa"


def of(name: str, surroundings: Surroundings) -> Containers:
    """What is responsible for the lab's hosts of the kind *name*."""
    return Containers(name, surroundings.lab, surroundings.mark, surroundings.shown, surroundings.events)


class Containers:
    """All hosts of kind ``incus``, or all of kind ``lxd``, of one lab; implements Kind.

    *mark* tells the lab from every other. *directories*: where storage of kind ``directory`` is on this machine.
    """

    def __init__(
        self, kind: str, lab: resolved.Lab, mark: str, directories: Mapping[str, Path], events: Events | None = None
    ) -> None:
        self._flavour, self._lab, self._mark, self._directories = FLAVOURS[kind], lab, mark, directories
        self._events = events or Events()
        self._daemons: dict[tuple[str, str], Daemon] = {}
        self._hosts: dict[str, ContainerHost] = {}
        self._silence = Silence()
        self._specs = {name: host for name, host in lab.hosts.items() if host.kind == kind}

    # -- finding ------------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Whether one of the daemons is there; see the port."""
        refusal: MachineError | None = None
        for name in self._specs:
            try:
                self._daemon(name)
                return
            except MachineError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal

    async def find(self, names: Collection[str]) -> dict[str, Seen]:
        """Each host as its daemon says; where that does not answer, nobody knows."""
        seen = await tasks.together(map(self._see, names))
        return dict(zip(names, seen, strict=True))

    async def _see(self, name: str) -> Seen:
        if recent := self._silence.recent(name):
            return Seen.silent(recent)
        try:
            daemon = self._daemon(name)
            async with _in_time(daemon):
                instance = await daemon.instance(self._container(name))
        except LimosaError as error:
            return self._silence.keep(name, error)
        if instance is None or instance.stopped or not self._is_mine(instance, name):
            return Seen.off(name)
        if instance.running:
            return Seen.on(self._host(name))
        # Frozen, on its way, or such that the daemon itself does not know: what is in it may go on.
        client = self._flavour.client
        return Seen.silent(
            MachineError(
                f"container {instance.name} of host {name} is {instance.status.lower()}, says {self._flavour.title}",
                hint=f"{client} list shows it; {client} start {instance.name} has a frozen one go on",
            )
        )

    def _is_mine(self, instance: Instance, name: str) -> bool:
        return definition.bears(instance.config, self._mark) and instance.config.get(definition.HOST) == name

    def _daemon(self, name: str) -> Daemon:
        spec = self._specs[name]
        key = (spec.remote, spec.project)
        if key not in self._daemons:
            self._daemons[key] = Daemon.open(self._flavour, *key)
        return self._daemons[key]

    def _container(self, name: str) -> str:
        return definition.container_name(self._lab.name, self._specs[name])

    def _runtime_directory(self, name: str) -> str:
        return f"{RUNTIME_DIRECTORY}-{self._lab.name}" if self._specs[name].adopt else RUNTIME_DIRECTORY

    def _host(self, name: str) -> ContainerHost:
        if name not in self._hosts:
            runtime = self._runtime_directory(name)
            self._hosts[name] = ContainerHost(name, self._daemon(name), self._container(name), runtime, self._events)
        return self._hosts[name]

    # -- making -------------------------------------------------------------------------------------------------------

    async def make(self, name: str) -> Host:
        """Launch a host's container, or take up the one that is adopted; see the port."""
        spec, daemon = self._specs[name], self._daemon(name)
        await self._check_project(daemon)
        want = definition.wanted(self._lab, spec, self._mark, self._directories)
        self._check_storage(spec)
        instance = await daemon.instance(self._container(name))
        if spec.adopt:
            await self._adopt(name, instance, want)
        else:
            await self._launch(name, instance, want)
        return self._host(name)

    async def visit(self, name: str) -> Host | None:
        """The container if there is one that is on; see the port."""
        spec, daemon, container = self._specs[name], self._daemon(name), self._container(name)
        await self._check_project(daemon)
        self._check_storage(spec)
        instance = await daemon.instance(container)
        if spec.adopt:
            self._may_adopt(name, await self._known(daemon, container, instance))
        elif instance is None:
            definition.image_source(self._flavour, spec.image, await daemon.images())
            return None
        elif not self._is_mine(instance, name):
            raise self._taken(container, instance)
        elif not instance.running:
            return None
        return self._host(name)

    async def _check_project(self, daemon: Daemon) -> None:
        if daemon.project != "default" and daemon.project not in (known := await daemon.projects()):
            raise SpecError(
                f"{self._flavour.title} has no project {daemon.project!r}{nearest(daemon.project, known)}",
                hint=f"it has {', '.join(sorted(known))}; {self._flavour.client} project create {daemon.project}",
            )

    def _check_storage(self, spec: resolved.Host) -> None:
        for storage in self._lab.storage.values():
            if storage.kind == "volume" and not definition.one_daemon(self._lab.hosts.values()):
                raise SpecError(
                    f"storage {storage.name} is a volume of {self._flavour.title}, which only the containers of one "
                    "daemon and project can share",
                    hint="use storage of kind nfs",
                )
            if storage.kind == "directory" and spec.remote:
                raise SpecError(
                    f"storage {storage.name} is a directory of this machine, and host {spec.name} is not on it",
                    hint="use storage of kind volume or nfs",
                )

    async def _launch(self, name: str, instance: Instance | None, want: definition.Wanted) -> None:
        spec, daemon, container = self._specs[name], self._daemon(name), self._container(name)
        if instance is not None and not self._is_mine(instance, name):
            raise self._taken(container, instance)
        # One that was there before, and does not start again, is kept: what was installed in it may be worth having.
        async with self._undone(name) if instance is None else contextlib.nullcontext():
            if instance is None:
                source = definition.image_source(self._flavour, spec.image, await daemon.images())
                await self._ensure_volumes(daemon)
                with self._events.stage(f"launch container {container}"):
                    await self._create(daemon, container, spec, source, want)
            instance = await daemon.instance(container)
            if instance is None:
                raise StateError(f"container {container} was removed while it was being made")
            definition.check_interfaces(instance, spec)
            if not instance.running:
                await daemon.switch(container, "start")
            await self._settle(name)

    def _taken(self, container: str, instance: Instance) -> StateError:
        return StateError(
            f"a container {container} exists already, and it is {definition.owner(instance.config)}",
            hint=f"rename the lab, or use that container: adopt: {container}",
        )

    async def _create(
        self, daemon: Daemon, container: str, spec: resolved.Host, source: dict[str, str], want: definition.Wanted
    ) -> None:
        try:
            await daemon.create(definition.request(container, source, want))
        except DaemonError as error:
            if "server" not in source:
                raise
            raise MachineError(
                f"image {spec.image} could not be had from {source['server']}: {error.message}",
                hint=f"{self._flavour.client} image list images: shows what there is (a release goes with its end of "
                "life); without internet, import an image and name its alias",
            ) from error

    @contextlib.asynccontextmanager
    async def _undone(self, name: str) -> AsyncIterator[None]:
        """What fails or is cancelled inside leaves no container; volumes stay for ``remove``."""
        try:
            yield
        except BaseException:
            await tasks.uninterrupted(self._discard(name))
            raise

    async def _discard(self, name: str) -> None:
        daemon, container = self._daemon(name), self._container(name)
        with contextlib.suppress(LimosaError):
            instance = await daemon.instance(container)
            if instance is not None and self._is_mine(instance, name):
                await self._delete(daemon, instance)

    async def _settle(self, name: str) -> None:
        """Wait until the container's own system has started, then see that it has what a host needs."""
        daemon, container = self._daemon(name), self._container(name)
        async for _ in Deadline.after(BOOT_S).ticks(0.2):
            if await software.booted(daemon, container):
                break
        else:
            self._events.note(f"container {container} has not started wholly within {BOOT_S:g} s", level="warning")
        await software.furnish(daemon, container, name, self._specs[name].qemu, self._events)
        # A container of the user's own keeps its name.
        hostname = "" if self._specs[name].adopt else name
        await software.prepare_run(daemon, container, hostname, self._runtime_directory(name))

    async def _ensure_volumes(self, daemon: Daemon) -> None:
        for storage in self._lab.storage.values():
            if storage.kind != "volume":
                continue
            names = [volume.name for volume in await daemon.volumes(storage.pool)]
            if storage.volume not in names:
                marks = {definition.LAB: self._lab.name, definition.MARK: self._mark}
                await daemon.create_volume(storage.pool, storage.volume, marks)

    async def _adopt(self, name: str, instance: Instance | None, want: definition.Wanted) -> None:
        daemon, container = self._daemon(name), self._container(name)
        instance = await self._known(daemon, container, instance)
        self._may_adopt(name, instance)
        again = self._is_mine(instance, name)
        lacking = definition.missing(instance, want)
        await self._ensure_volumes(daemon)
        try:
            # Marked first: whoever takes the lab down later knows then what else to look for.
            await daemon.change(container, config=want.settings(adopted=True))
            if lacking:
                await daemon.change(container, devices=lacking)
            await self._settle(name)
        except BaseException:
            if not again:
                await tasks.uninterrupted(self._release(daemon, container))
            raise

    async def _known(self, daemon: Daemon, container: str, instance: Instance | None) -> Instance:
        """The container that is to be adopted. Raises MachineError when there is none."""
        if instance is not None:
            return instance
        names = [one.name for one in await daemon.instances()]
        raise MachineError(
            f"{self._flavour.title} has no container {container} in project {daemon.project}"
            f"{nearest(container, names)}",
            hint=f"{self._flavour.client} list shows them; without `adopt:` limosa launches one",
        )

    def _may_adopt(self, name: str, instance: Instance) -> None:
        """Raise StateError or SpecError for a container that cannot be a host of this lab."""
        container = instance.name
        if instance.config.get(definition.MARK) and not self._is_mine(instance, name):
            raise StateError(
                f"container {container} is in use already, by {definition.owner(instance.config)}",
                hint="name another container; it is free when that lab is down",
            )
        if instance.type != "container":
            raise SpecError(f"{container} is a virtual machine, and a host has to be a container")
        if not instance.running:
            raise StateError(f"container {container} is off", hint=f"{self._flavour.client} start {container}")

    async def _release(self, daemon: Daemon, container: str) -> None:
        """Take away what was added to an adopted container."""
        if (instance := await daemon.instance(container)) is not None:
            await daemon.replace(instance, *definition.stripped(instance))

    # -- off, on, away ------------------------------------------------------------------------------------------------

    async def ended(self, name: str) -> bool:
        """The daemon knows; see the port."""
        return (await self._see(name)).state is HostState.OFF

    async def power_off(self, name: str) -> None:
        """As pulling the plug."""
        await self._pull_plug(self._daemon(name), self._container(name))

    async def _pull_plug(self, daemon: Daemon, container: str) -> None:
        """A forced stop of what is nearly empty. The daemon freezes a container before it kills what is in it, and the
        LXC 5.0 below it was seen to wait for ever when many processes died while frozen: it missed the thaw."""
        await software.kill_all(daemon, container)
        await daemon.switch(container, "stop", force=True)

    async def power_on(self, name: str) -> Host:
        """Undo ``power_off``."""
        daemon, container = self._daemon(name), self._container(name)
        instance = await daemon.instance(container)
        if instance is None:
            return await self.make(name)
        if not instance.running:
            await daemon.switch(container, "start")
        await self._settle(name)
        return self._host(name)

    async def set_links(self, name: str, state: LinkState) -> None:
        """From inside: the daemon itself is not on these links."""
        await ip.set_own_links(self._host(name), self._lab, state)

    async def remove(self) -> dict[str, LimosaError]:
        """Take away all that bears the lab's mark; see the port."""
        daemons, failures = await self._all_daemons()
        for daemon, names in daemons:
            try:
                failures |= await self._remove_instances(daemon, names)
                if not failures.keys() & set(names):  # else what stays has them in use
                    for pool, volume in await self._marked_volumes(daemon):
                        await daemon.delete_volume(pool, volume)
            except LimosaError as error:
                failures |= dict.fromkeys(names, error)
        return failures

    async def _remove_instances(self, daemon: Daemon, names: list[str]) -> dict[str, LimosaError]:
        """Those of one daemon, which has the hosts *names*; one that stays does not keep the others."""
        failures = dict[str, LimosaError]()
        for instance in await self._marked(daemon):
            name = instance.config.get(definition.HOST, "")
            try:
                await (self._leave if instance.config.get(definition.ADOPTED) else self._delete)(daemon, instance)
            except LimosaError as error:
                failures[name if name in names else names[0]] = error
        return failures

    async def _leave(self, daemon: Daemon, instance: Instance) -> None:
        """An adopted container as it was: no process, no device, no file and at last no mark of the lab."""
        if instance.running:
            runtime = f"{RUNTIME_DIRECTORY}-{self._lab.name}"
            host = ContainerHost(instance.config.get(definition.HOST, ""), daemon, instance.name, runtime, self._events)
            try:
                await host.end_spawned()
                # Storage is taken out before anything is removed that it may be mounted in.
                await daemon.replace(instance, definition.stripped(instance)[0], instance.config)
                await host.run(["rm", "-rf", "--", runtime])
                if folders := definition.made_for_storage(instance):
                    await host.run(["rmdir", "-p", "--", *folders], check=False)
            finally:
                await host.close()
        await self._release(daemon, instance.name)

    async def _delete(self, daemon: Daemon, instance: Instance) -> None:
        if instance.running:
            await self._pull_plug(daemon, instance.name)
        async for _ in Deadline.after(BUSY_S).ticks(0.2):
            try:
                await daemon.delete(instance.name)
                return
            except DaemonError as error:
                if error.code == NOT_FOUND:
                    return
                if BUSY not in error.message:
                    raise
                busy = error
        raise busy

    async def left(self) -> list[str]:
        """What bears the lab's mark still."""
        lines = []
        for daemon, _ in (await self._all_daemons())[0]:
            for instance in await self._marked(daemon):
                word = "marks on container" if instance.config.get(definition.ADOPTED) else "container"
                lines.append(f"{self._flavour.kind} {word} {instance.name}")
            volumes = await self._marked_volumes(daemon)
            lines += [f"{self._flavour.kind} volume {volume} in pool {pool}" for pool, volume in volumes]
        return lines

    def remains(self, name: str) -> str:
        """The container and what the daemon keeps for it, or what was added to an adopted one."""
        container, spec = self._container(name), self._specs[name]
        where = f" in project {spec.project}" if spec.project != "default" else ""
        daemon = f"{self._flavour.title}{f' at {spec.remote}' if spec.remote else ''}{where}"
        if spec.adopt:
            return (
                f"marks and devices (limosa-...) of the lab on container {container} of {daemon}, with what runs in it"
            )
        return f"container {container} of {daemon}, and volumes there that bear {definition.MARK}={self._mark}"

    async def _all_daemons(self) -> tuple[list[tuple[Daemon, list[str]]], dict[str, LimosaError]]:
        """Those that may have something of the lab's, each with the hosts that it has, and why others do not answer.

        In a project that does not exist there is nothing.
        """
        hosts: dict[tuple[str, str], list[str]] = {}
        for name, spec in self._specs.items():
            hosts.setdefault((spec.remote, spec.project), []).append(name)
        found, failures = [], dict[str, LimosaError]()
        for names in hosts.values():
            if recent := self._silence.recent(names[0]):
                failures |= dict.fromkeys(names, recent)
                continue
            try:
                daemon = self._daemon(names[0])
                async with _in_time(daemon):
                    known = await daemon.projects()
                    if daemon.project == "default" or daemon.project in known:
                        found.append((daemon, names))
            except LimosaError as error:
                failures |= dict.fromkeys(names, error)
        return found, failures

    async def _marked(self, daemon: Daemon) -> list[Instance]:
        return [one for one in await daemon.instances() if definition.bears(one.config, self._mark)]

    async def _marked_volumes(self, daemon: Daemon) -> list[tuple[str, str]]:
        return [
            (pool, volume.name)
            for pool in await daemon.pools()
            for volume in await daemon.volumes(pool)
            if definition.bears(volume.config, self._mark)
        ]

    async def close(self) -> None:
        """Let go of connections; hosts and guests go on."""
        await tasks.each(host.close() for host in self._hosts.values())
        await tasks.each(daemon.close() for daemon in self._daemons.values())
        self._hosts, self._daemons = {}, {}


@contextlib.asynccontextmanager
async def _in_time(daemon: Daemon) -> AsyncIterator[None]:
    """What is asked inside is answered soon, or by a MachineError."""
    try:
        async with asyncio.timeout(LOOK_S):
            yield
    except TimeoutError as error:
        raise MachineError(
            f"{daemon.endpoint.words} did not answer within {LOOK_S:g} s",
            hint=f"{daemon.flavour.client} list shows whether it answers you",
        ) from error
