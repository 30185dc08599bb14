"""``image install alpine``: setup-alpine on a machine that was started from its medium, and a few things over SSH."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limosa import temporary
from limosa.errors import LimosaError, MachineError, SpecError
from limosa.events import Events
from limosa.guest import download, library
from limosa.guest.agent import executable
from limosa.guest.installer import alpine, alpine_medium, iso, login
from limosa.guest.installer.installation import Installation, Request, install
from limosa.guest.installer.player import TakeOver
from limosa.guest.installer.virtual_machine import Hardware

if TYPE_CHECKING:
    import asyncssh

MEMORY_BYTES = 1 << 30
"""As much as the guest that people install by hand gets; the live system keeps its changes in it."""

SIZE_BYTES = 2 << 30
SMALLEST_BYTES = 700 << 20
LARGEST_NAME = 32

_SERVICE = """\
#!/sbin/openrc-run
description="Limosa's agent: measures inside the guest"
supervisor=supervise-daemon
command=/usr/sbin/limosa-agent
"""


async def install_alpine(request: Request, events: Events, take_over: TakeOver | None = None) -> library.Entry:
    """Install Alpine as *request* says; raises as ``installation.install`` does, and for the request."""
    _check(request)
    source = await alpine_medium.medium(request, events)
    name = request.name or f"alpine-{source.version}"
    library.check_name(name)
    if (there := library.find(name)) is not None:
        raise library.ImageExists(there)
    mirror = alpine_medium.Mirror()
    if not request.offline:
        mirror = await alpine_medium.reachable(request.mirror or alpine.MIRROR, source.version)
    alpine_medium.check_enough(source, mirror)
    if mirror.why:
        events.note(f"{mirror.why}: installing from the ISO alone, without sysbench")
    with temporary.folder("kernel") as folder:
        wanted = await asyncio.to_thread(_installation, request, source, mirror, name, folder, events)
        return await install(wanted, events, take_over)


def _installation(
    request: Request,
    source: alpine_medium.Source,
    mirror: alpine_medium.Mirror,
    name: str,
    folder: Path,
    events: Events,
) -> Installation:
    wishes = alpine.Wishes(
        hostname=re.sub(r"[^a-z0-9-]", "-", name)[:LARGEST_NAME].strip("-"),
        authorized_keys=request.public_keys,
        password=request.password,
        typed_password=request.password or secrets.token_urlsafe(18),
        branch=alpine.branch(source.version),
        mirror=mirror.url,
        proxy=mirror.proxy,
        kept_mirror=alpine_medium.lasting(mirror, request.mirror),
        as_a_person=request.as_a_person,
    )
    limit_s = request.step_limit_s
    limits = alpine.Limits(boot_s=limit_s, answer_s=limit_s, command_s=limit_s) if limit_s else alpine.Limits()
    network: Literal["open", "closed"] = "open" if mirror.url else "closed"
    booted = Hardware(
        disk=Path(), iso=source.path, memory_bytes=MEMORY_BYTES, network=network, reboots=False, display=True
    )
    # A medium whose kernel is silent on the serial port is started past its boot loader, which would not make it speak.
    direct = _direct(booted, source.holds, folder) if source.holds.silent else None
    return Installation(
        name=name,
        title=f"Alpine {source.version}",
        size_bytes=request.size_bytes or SIZE_BYTES,
        installer=direct or booted,
        again=None if direct else lambda folder: _direct(booted, source.holds, folder),
        script=lambda key: alpine.install_script(wishes.letting_in(key), limits),
        installed=Hardware(disk=Path(), memory_bytes=MEMORY_BYTES, machine="q35", network=network, reboots=False),
        boot=alpine.boot_script(wishes.hostname, limits),
        finish=lambda connection: _finish(connection, wishes, mirror, events),
        ssh_within_s=limits.command_s,
        provenance={
            "how": "installed by setup-alpine, " + ("question by question" if request.as_a_person else "answer file"),
            "system": "Alpine Linux",
            "version": source.version,
            "started": "its kernel, directly" if direct else "its boot loader",
            "hostname": wishes.hostname,
            "mirror": (request.mirror or alpine.MIRROR) if mirror.url else "",
            "root_password": bool(request.password),
            **source.provenance,
        },
    )


def _check(request: Request) -> None:
    alpine_medium.check_version(request.version)
    if 0 < request.size_bytes < SMALLEST_BYTES:
        raise SpecError("the disk is too small for Alpine", hint="--size 1GiB at least")
    if any(ord(character) < 32 or ord(character) > 126 for character in request.password):
        raise SpecError("the password holds what a console may not take", hint="letters, digits and signs of ASCII")
    download.checked_sha256(request.sha256)


def _direct(booted: Hardware, holds: iso.Alpine, folder: Path) -> Hardware | None:
    """The same machine with the medium's kernel started by QEMU, so that it can be given arguments."""
    assert booted.iso is not None
    found = iso.kernel(booted.iso, folder)
    append = alpine.direct(holds.append, holds.flavour)
    return replace(booted, kernel=found[0], initrd=found[1], append=append) if found else None


async def _finish(
    connection: asyncssh.SSHClientConnection, wishes: alpine.Wishes, mirror: alpine_medium.Mirror, events: Events
) -> dict[str, Any]:
    """sysbench where the network allows, and the agent where it can be compiled; what is left out is said."""
    release = (await login.run(connection, "cat /etc/alpine-release", 60)).strip()
    added, left_out = [], []
    if mirror.url:
        through = f"env http_proxy={mirror.proxy} https_proxy={mirror.proxy} " if mirror.proxy else ""
        try:
            await login.run(connection, f"{through}apk add --no-progress sysbench", 300)
            added.append("sysbench")
        except LimosaError as error:
            left_out.append(f"sysbench ({error.message})")
    if wishes.repositories not in ((), wishes.kept_repositories):
        # Elsewhere nobody answers at this machine's loopback.
        await login.run(connection, alpine.naming(wishes.kept_repositories, "/etc/apk/repositories"), 60)
    try:
        await _add_agent(connection, await executable.ensure(events))
        added.append("limosa-agent")
    except (MachineError, OSError) as error:
        left_out.append(f"the agent ({error})")
    for what in left_out:
        events.note(f"left out of the image: {what}", level="warning")
    return {"alpine_release": release, "added": added, "left_out": left_out}


async def _add_agent(connection: asyncssh.SSHClientConnection, program: Path) -> None:
    for path, content in (("/usr/sbin/limosa-agent", program.read_bytes()), ("/etc/init.d/limosa-agent", _SERVICE)):
        data = content if isinstance(content, bytes) else content.encode()
        await login.run(connection, f"cat > {path} && chmod 755 {path}", 120, stdin=data)
    await login.run(connection, "rc-update add limosa-agent default", 60)
    await login.run(connection, "grep -qx virtio_console /etc/modules || echo virtio_console >> /etc/modules", 60)
