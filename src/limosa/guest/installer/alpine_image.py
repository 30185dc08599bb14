"""``image install alpine``: the medium from a mirror or a file, setup-alpine on it, and a few things over SSH."""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limosa import paths
from limosa.errors import LimosaError, MachineError, SpecError
from limosa.events import Events
from limosa.guest import download, library
from limosa.guest.agent.build import build as build_agent
from limosa.guest.agent.build import source_digest
from limosa.guest.installer import alpine, iso, login
from limosa.guest.installer.engine import TakeOver
from limosa.guest.installer.installing import Plan, Request, install
from limosa.guest.installer.machine import Hardware

if TYPE_CHECKING:
    import asyncssh

MEMORY_BYTES = 1 << 30
"""As much as the guest that people install by hand gets; the live system keeps its changes in it."""

SIZE_BYTES = 2 << 30
SMALLEST_BYTES = 700 << 20
LARGEST_NAME = 32
_REACH_S = 5.0

_SERVICE = """\
#!/sbin/openrc-run
description="Limosa's agent: measures inside the guest"
supervisor=supervise-daemon
command=/usr/sbin/limosa-agent
"""


async def install_alpine(request: Request, events: Events, take_over: TakeOver | None = None) -> library.Entry:
    """Install Alpine as *request* says; see ``installing.install`` for what is raised beside errors in the request."""
    _check(request)
    medium, version, provenance = await _medium(request, events)
    name = request.name or f"alpine-{version}"
    library.check_name(name)
    if (there := library.find(name)) is not None:
        raise library.ImageExists(there)
    mirror = "" if request.offline else await _reachable_mirror(request.mirror or alpine.MIRROR, version, events)
    wishes = alpine.Wishes(
        hostname=re.sub(r"[^a-z0-9-]", "-", name)[:LARGEST_NAME].strip("-"),
        authorized_keys=request.public_keys,
        password=request.password,
        typed_password=request.password or secrets.token_urlsafe(18),
        branch=alpine.branch(version),
        mirror=mirror,
        as_a_person=request.as_a_person,
    )
    limit_s = request.step_limit_s
    limits = alpine.Limits(boot_s=limit_s, answer_s=limit_s, command_s=limit_s) if limit_s else alpine.Limits()
    network: Literal["open", "closed"] = "open" if mirror else "closed"
    installer = Hardware(
        disk=Path(), iso=medium, memory_bytes=MEMORY_BYTES, network=network, reboots=False, display=True
    )
    plan = Plan(
        name=name,
        title=f"Alpine {version}",
        size_bytes=request.size_bytes or SIZE_BYTES,
        installer=installer,
        again=lambda folder: _direct(installer, folder),
        script=lambda key: alpine.install_script(wishes.letting_in(key), limits),
        installed=Hardware(disk=Path(), memory_bytes=MEMORY_BYTES, machine="q35", network=network, reboots=False),
        boot=alpine.boot_script(wishes.hostname, limits),
        finish=lambda connection: _finish(connection, mirror, events),
        ssh_within_s=limits.command_s,
        provenance={
            "how": "installed by setup-alpine, " + ("question by question" if request.as_a_person else "answer file"),
            "system": "Alpine Linux",
            "version": version,
            "hostname": wishes.hostname,
            "mirror": mirror,
            "root_password": bool(request.password),
            **provenance,
        },
    )
    return await install(plan, events, take_over)


def _check(request: Request) -> None:
    if request.version and not re.fullmatch(r"\d+\.\d+\.\d+(_\w+)?", request.version):
        raise SpecError(f"{request.version!r} is no Alpine release", hint="as in --version 3.15.4")
    if 0 < request.size_bytes < SMALLEST_BYTES:
        raise SpecError("the disk is too small for Alpine", hint="--size 1GiB at least")
    if any(ord(character) < 32 or ord(character) > 126 for character in request.password):
        raise SpecError("the password holds what a console may not take", hint="letters, digits and signs of ASCII")
    download.checked_sha256(request.sha256)


async def _medium(request: Request, events: Events) -> tuple[Path, str, dict[str, Any]]:
    """The ISO, the release on it, and where it is from."""
    if request.iso is not None:
        medium = iso.examine(request.iso)
        with events.stage("check the ISO"):
            found = download.digest(request.iso)
        if request.sha256 and found != request.sha256.lower():
            raise LimosaError(
                f"{request.iso} is not what --sha256 says: {found}", hint="download it again, from a source you trust"
            )
        version = request.version or iso.alpine_version(medium)
        if not version:
            raise SpecError(
                f"{request.iso} does not say which Alpine it holds (its label is {medium.label!r})",
                hint="say it with --version",
            )
        return request.iso.absolute(), version, {"iso": str(request.iso.absolute()), "iso_sha256": found}
    mirror = (request.mirror or alpine.MIRROR).rstrip("/")
    version = request.version or await _latest(mirror)
    file = f"alpine-virt-{version}-x86_64.iso"
    url = f"{mirror}/{alpine.branch(version)}/releases/x86_64/{file}"
    target = paths.cache() / "downloads" / file
    found = await download.fetch(url, target, events, sha256=request.sha256 or await _checksum(url, target))
    target.with_name(file + ".sha256").write_text(f"{found}  {file}\n")
    iso.examine(target)
    return target, version, {"url": url, "iso_sha256": found}


async def _checksum(url: str, target: Path) -> str:
    """What the mirror publishes; one that cannot be reached is not needed for a medium that was fetched before."""
    try:
        return await download.published_sha256(url)
    except MachineError:
        kept = target.with_name(target.name + ".sha256")
        if not (target.is_file() and kept.is_file()):
            raise
        return kept.read_text().split()[0]


def _direct(installer: Hardware, folder: Path) -> Hardware | None:
    """The same machine with the medium's kernel started by QEMU, so that it can be given arguments."""
    assert installer.iso is not None
    found = iso.kernel(installer.iso, folder)
    return replace(installer, kernel=found[0], initrd=found[1], append=alpine.DIRECT) if found else None


async def _latest(mirror: str) -> str:
    """The newest release, as the mirror lists it."""
    listed = await download.text(f"{mirror}/latest-stable/releases/x86_64/latest-releases.yaml")
    found = re.search(r"alpine-virt-(\d+\.\d+\.\d+)-x86_64\.iso", listed)
    if found is None:
        raise LimosaError(f"{mirror} does not list its newest release", hint="say which one with --version")
    return found.group(1)


async def _reachable_mirror(mirror: str, version: str, events: Events) -> str:
    """The mirror when the machine to be installed can reach it as this one does, without a proxy; else empty."""
    import httpx

    mirror = mirror.rstrip("/")
    try:
        async with httpx.AsyncClient(timeout=_REACH_S, trust_env=False, follow_redirects=True) as client:
            answer = await client.head(f"{mirror}/{alpine.branch(version)}/main/x86_64/APKINDEX.tar.gz")
        why = "" if answer.status_code == 200 else f"it answered {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
    if why:
        events.note(f"{mirror} cannot be reached ({why}): installing from the ISO alone, without sysbench")
    return "" if why else mirror


async def _finish(connection: asyncssh.SSHClientConnection, mirror: str, events: Events) -> dict[str, Any]:
    """sysbench where the network allows, and the agent where it can be compiled; what is left out is said."""
    release = (await login.run(connection, "cat /etc/alpine-release", 60)).strip()
    added, left_out = [], []
    if mirror:
        try:
            await login.run(connection, "apk add --no-progress sysbench", 300)
            added.append("sysbench")
        except LimosaError as error:
            left_out.append(f"sysbench ({error.message})")
    try:
        program = paths.cache() / "agent" / f"limosa-agent-{source_digest()[:16]}"
        if not program.exists():
            program.parent.mkdir(parents=True, exist_ok=True)
            await build_agent(program, events)
        await _add_agent(connection, program)
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
