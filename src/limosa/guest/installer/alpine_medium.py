"""Where an Alpine is installed from: the medium, a file or fetched, and the mirror that the new machine can reach."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limosa import paths
from limosa.errors import LimosaError, MachineError, SpecError
from limosa.events import Events
from limosa.guest import download
from limosa.guest.installer import alpine, iso
from limosa.guest.installer.installation import Request

_REACH_S = 5.0
_WHOLE = r"\d+\.\d+\.\d+(?:_\w+)?|20\d{6}"
_LOOPBACK = re.compile(r"(?<=//)(?:localhost|127(?:\.\d+){3}|\[::1\])(?=[:/]|$)")
_THIS_MACHINE = "10.0.2.2"
"""What a guest of QEMU's user network calls the machine that it runs on (QEMU's documentation, Network emulation)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A medium that is here and whole."""

    path: Path
    version: str
    holds: iso.Alpine
    provenance: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A mirror as the machine to be installed calls it; empty: none."""

    url: str = ""
    proxy: str = ""
    """The HTTP proxy on the way; empty: none."""
    passing: bool = False
    """Whether only this machine's guests know it by that name."""
    why: str = ""
    """Why there is none."""


def check_version(version: str) -> None:
    """Raise SpecError unless *version* is empty or could be a release."""
    if version and not re.fullmatch(rf"{_WHOLE}|\d+\.\d+|edge", version):
        raise SpecError(f"{version!r} is no Alpine release", hint="as in --version 3.15.4, 3.15 or edge")


async def medium(request: Request, events: Events) -> Source:
    """The ISO, the release on it, and where it is from."""
    if request.iso is not None:
        return await _given(request, request.iso, events)
    mirror = (request.mirror or alpine.MIRROR).rstrip("/")
    version = request.version
    if not re.fullmatch(_WHOLE, version):
        version = await _newest(mirror, alpine.branch(version) if version else "latest-stable")
    file = f"alpine-virt-{version}-x86_64.iso"
    url = f"{mirror}/{alpine.branch(version)}/releases/x86_64/{file}"
    target = paths.cache() / "downloads" / file
    found = await download.fetch(url, target, events, sha256=request.sha256 or await _checksum(url, target))
    target.with_name(file + ".sha256").write_text(f"{found}  {file}\n")
    whole = iso.examine(target)
    holds = await asyncio.to_thread(iso.alpine, target, whole)
    _check_is_alpine(target, whole, holds)
    return Source(path=target, version=version, holds=holds, provenance={"url": url, "iso_sha256": found})


async def _given(request: Request, path: Path, events: Events) -> Source:
    whole = iso.examine(path)
    with events.stage("check the ISO"):
        holds = await asyncio.to_thread(iso.alpine, path, whole)
        _check_is_alpine(path, whole, holds)
        found = await asyncio.to_thread(_checked, path)
    if request.sha256 and found != request.sha256.lower():
        raise LimosaError(
            f"{path} is not what --sha256 says: {found}", hint="download it again, from a source you trust"
        )
    version = request.version or holds.version
    if not version:
        raise SpecError(
            f"{path} does not say which Alpine it holds (its label is {whole.label!r})",
            hint="say it with --version",
        )
    if holds.version and alpine.branch(version) != alpine.branch(holds.version):
        raise SpecError(
            f"{path} holds Alpine {holds.version}, not {version}", hint="leave --version out, or give the other ISO"
        )
    provenance = {"iso": str(path.absolute()), "iso_sha256": found}
    return Source(path=path.absolute(), version=version, holds=holds, provenance=provenance)


def _check_is_alpine(path: Path, whole: iso.Medium, holds: iso.Alpine) -> None:
    """Raise SpecError for a medium of another system: its installer would ask what nobody answers."""
    if holds.known:
        return
    labelled = f"its label is {whole.label!r}" if whole.label else "it has no label"
    raise SpecError(
        f"{path} holds no Alpine: {labelled}, and on it is {iso.described(path)}",
        hint="limosa image install alpine takes Alpine's own media (alpine-virt, -standard, -extended); "
        "limosa image install debian needs no ISO, and a disk or cloud image no installer: `image:` in the lab file",
    )


def _checked(path: Path) -> str:
    """The SHA-256 of a file. Raises LimosaError when a checksum is beside it, as Alpine publishes them, and differs."""
    found = download.digest(path)
    for algorithm in ("sha256", "sha512"):
        beside = path.with_name(f"{path.name}.{algorithm}")
        try:
            said = re.match(r"[0-9a-fA-F]+\b", beside.read_text())
        except (OSError, UnicodeDecodeError):
            continue
        digest = found if algorithm == "sha256" else download.digest(path, algorithm)
        if said is None or said.group(0).lower() != digest:
            raise LimosaError(
                f"{path} is not what {beside.name} beside it says",
                hint="download both again, or remove the checksum if it is another file's",
            )
    return found


async def _checksum(url: str, target: Path) -> str:
    """What the mirror publishes; one that cannot be reached is not needed for a medium that was fetched before."""
    try:
        return await download.published_sha256(url)
    except MachineError:
        kept = target.with_name(target.name + ".sha256")
        if not (target.is_file() and kept.is_file()):
            raise
        return kept.read_text().split()[0]


async def _newest(mirror: str, branch: str) -> str:
    """The newest release of a branch, as the mirror lists it."""
    listed = await download.text(f"{mirror}/{branch}/releases/x86_64/latest-releases.yaml")
    found = re.search(rf"alpine-virt-({_WHOLE})-x86_64\.iso", listed)
    if found is None:
        raise LimosaError(
            f"{mirror} lists no alpine-virt in {branch}", hint="say which release with --version, as in 3.15.4"
        )
    return found.group(1)


async def reachable(mirror: str, version: str) -> Mirror:
    """The mirror, when the machine to be installed can reach it as this one does; else an empty one.

    That machine is on QEMU's user network: this one's loopback has another address there, and a proxy of this one's
    environment serves it as well. Alpine's own mirror is asked without TLS too, should somebody on the way replace
    certificates: apk checks the signatures of what it gets.
    """
    mirror = mirror.rstrip("/")
    passing, why = bool(_LOOPBACK.search(mirror)), ""
    for url in (mirror, *([mirror.replace("https:", "http:")] if mirror == alpine.MIRROR else [])):
        index = f"{url}/{alpine.branch(version)}/main/x86_64/APKINDEX.tar.gz"
        for proxy in ("", *([] if passing else _proxies(url))):
            if not (failed := await _why_not(index, proxy)):
                return Mirror(
                    url=_LOOPBACK.sub(_THIS_MACHINE, url),
                    proxy=_LOOPBACK.sub(_THIS_MACHINE, proxy).rstrip("/"),
                    passing=passing,
                )
            why = why or failed
    return Mirror(why=f"{mirror} cannot be reached ({why})")


def lasting(found: Mirror, wanted: str) -> str:
    """A mirror as a system calls it that may be anywhere: the one that was found, or the *wanted* one where none was.

    On this machine's loopback is none: Alpine's own takes its place.
    """
    if found.url and not found.passing:
        return found.url
    wanted = wanted.rstrip("/")
    return alpine.MIRROR if not wanted or _LOOPBACK.search(wanted) else wanted


def _proxies(url: str) -> list[str]:
    """The proxy that this machine's environment has for an address, if it can be used."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    # A proxy's password would be typed on the console, and be shown there.
    usable = re.fullmatch(r"https?://[^@\s'\"$`\\]+", proxy) and not proxy_bypass(parts.hostname or "")
    return [proxy] if usable else []


async def _why_not(url: str, proxy: str) -> str:
    """Why a file cannot be fetched; empty when it can."""
    import httpx

    try:
        async with (
            httpx.AsyncClient(timeout=_REACH_S, trust_env=False, proxy=proxy or None, follow_redirects=True) as client,
            client.stream("GET", url) as answer,
        ):
            return "" if answer.status_code == 200 else f"it answered {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return str(error) or type(error).__name__


def check_enough(source: Source, mirror: Mirror) -> None:
    """Raise MachineError when neither medium nor mirror has what a disk needs: better now than at the last question."""
    if mirror.url or not (lacks := source.holds.lacks):
        return
    raise MachineError(
        f"{source.path.name} does not hold what an installation on a disk needs ({', '.join(lacks)}), "
        f"and there is no mirror to fetch it from{': ' * bool(mirror.why)}{mirror.why}",
        hint="alpine-virt and alpine-standard need a mirror that can be reached (--mirror); alpine-extended needs none",
    )
