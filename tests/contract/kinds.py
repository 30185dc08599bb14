"""The kinds of host that the contract is tried on. A further kind is one more function in ``KINDS``.

Each yields a Made: the host, source text by which another process gets the same host, and how to pull its plug.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from limosa import spec
from limosa.hosts.containers.kind import Containers
from limosa.hosts.host import Host
from limosa.hosts.local import LocalHost
from limosa.hosts.ssh.kind import SshKind
from limosa.lab import Lab
from limosa.spec import codec, resolved
from tests import daemons, namespaces
from tests.ssh_machine import let_go, ssh_machine
from tests.sshd import USER
from tests.sshd import required as ssh_machine_required

LAB = "name: {name}\nhosts:\n  host1: {{}}\n"


@dataclass(frozen=True, slots=True)
class Made:
    """A host to try the contract on."""

    host: Callable[[], Host]
    """The host as it is now: it may have been switched off and on since."""
    attach: str
    """Python source that defines ``attach()``, an asynchronous context manager that gives the same host."""
    power_off: Callable[[], Awaitable[None]] | None
    """None where that is not to be had, or would be this machine."""
    restore: Callable[[], Awaitable[None]] | None
    """Switch the host on again, so that the next test finds it."""


ATTACH = """
from contextlib import asynccontextmanager
from limosa.lab import Lab

@asynccontextmanager
async def attach():
    async with Lab.open({name!r}) as lab:
        yield lab.host("host1")
"""


@asynccontextmanager
async def _namespaces(rootless: bool) -> AsyncIterator[Made]:
    name = f"contract{'r' if rootless else ''}"
    async with Lab.open(spec.loads(LAB.format(name=name)), ephemeral=True, rootless=rootless) as lab:
        await lab.up()
        yield Made(
            lambda: lab.host("host1"),
            ATTACH.format(name=name),
            partial(lab.hosts.power_off, "host1"),
            partial(lab.hosts.restore, "host1"),
        )


def namespaces_as_root() -> AbstractAsyncContextManager[Made]:
    """Namespaces without a user namespace."""
    namespaces.required(rootless=False)
    return _namespaces(rootless=False)


def namespaces_rootless() -> AbstractAsyncContextManager[Made]:
    """Namespaces inside a user namespace."""
    namespaces.required(rootless=True)
    return _namespaces(rootless=True)


ATTACH_LOCAL = """
from contextlib import asynccontextmanager
from limosa.hosts.local import LocalHost

@asynccontextmanager
async def attach():
    host = LocalHost({name!r}, {runtime!r})
    try:
        yield host
    finally:
        await host.close()
"""


@asynccontextmanager
async def local() -> AsyncIterator[Made]:
    """This machine itself, by a link to a child process."""
    runtime = tempfile.mkdtemp(prefix="lc")
    host = LocalHost(platform.node(), runtime)
    try:
        yield Made(lambda: host, ATTACH_LOCAL.format(name=platform.node(), runtime=runtime), None, None)
    finally:
        await host.close()
        shutil.rmtree(runtime)


SSH_HOST = resolved.Host("host1", kind="ssh", machine="machine1")
SSH_OWNER = "the contract's own"
ATTACH_SSH = f"""
from contextlib import asynccontextmanager
from limosa.hosts.ssh.kind import SshKind
from limosa.spec import resolved

@asynccontextmanager
async def attach():
    machine = resolved.Host("host1", kind="ssh", machine="machine1")
    kind = SshKind(resolved.Lab("contract", {{}}, {{}}, {{"host1": machine}}, {{}}), {SSH_OWNER!r})
    try:
        yield await kind.make("host1")
    finally:
        await kind.close()
"""


@asynccontextmanager
async def _ssh(user: str) -> AsyncIterator[Made]:
    made = SshKind(resolved.Lab("contract", {}, {}, {"host1": SSH_HOST}, {}), SSH_OWNER)
    async with ssh_machine("contracts", user) as machine, let_go(made) as kind:
        host = await kind.make("host1")

        async def restore() -> None:
            await machine.restore()
            await kind.make("host1")

        yield Made(lambda: host, ATTACH_SSH, machine.power_off, restore)
        assert await kind.remove() == {}
        assert await kind.left() == []


def ssh_as_root() -> AbstractAsyncContextManager[Made]:
    """A machine over SSH, logged in to as root."""
    ssh_machine_required()
    return _ssh("root")


def ssh_as_user() -> AbstractAsyncContextManager[Made]:
    """A machine over SSH, logged in to as an ordinary user."""
    ssh_machine_required()
    return _ssh(USER)


ATTACH_CONTAINER = """
from contextlib import asynccontextmanager
from limosa.hosts.containers.kind import Containers
from limosa.spec import codec

@asynccontextmanager
async def attach():
    kind = Containers({kind!r}, codec.decode({lab!r}), {mark!r}, {{}})
    try:
        yield (await kind.find(["host1"]))["host1"].host
    finally:
        await kind.close()
"""


@asynccontextmanager
async def containers(kind: str) -> AsyncIterator[Made]:
    """A container of a daemon that is started for it."""
    with daemons.running(kind) as daemon, pytest.MonkeyPatch.context() as patch:
        for name, value in daemon.variables.items():
            patch.setenv(name, value)
        host = resolved.Host("host1", kind=kind, image="tiny")
        lab = resolved.Lab("contract", networks={}, storage={}, hosts={"host1": host}, guests={})
        mark = str(daemon.directory / "lab")

        hosts = Containers(kind, lab, mark, {})
        now = {"host1": await hosts.make("host1")}

        async def restore() -> None:
            now["host1"] = await hosts.power_on("host1")

        attach = ATTACH_CONTAINER.format(lab=codec.encode(lab), kind=kind, mark=mark)
        try:
            yield Made(lambda: now["host1"], attach, partial(hosts.power_off, "host1"), restore)
            assert await hosts.remove() == {}
            assert await hosts.left() == []
        finally:
            await hosts.close()


KINDS: dict[str, Callable[[], AbstractAsyncContextManager[Made]]] = {
    "namespaces-root": namespaces_as_root,
    "namespaces-rootless": namespaces_rootless,
    "local": local,
    "ssh-root": ssh_as_root,
    "ssh-user": ssh_as_user,
    "incus": partial(containers, "incus"),
    "lxd": partial(containers, "lxd"),
}
