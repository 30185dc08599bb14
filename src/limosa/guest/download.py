"""Fetching a large file over HTTP: into place whole and verified or not at all, resumed where it stopped.

::

    <target>        appears when it is whole, and its checksum right
    <target>.part   what has arrived; a broken download leaves it, the next one goes on behind it
    <target>.lock   held by whoever fetches, and gone when nobody does; a second command waits, and then finds the file
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from limosa.errors import LimosaError, MachineError, SpecError
from limosa.events import Events
from limosa.guest.image_folder import in_turn
from limosa.temporary import sweep_locks
from limosa.units import format_bytes

if TYPE_CHECKING:
    import httpx

TRIES = 4
"""How often a connection that broke is made again, each time from where it stopped."""

SILENCE_S = 30.0
"""How long a server may say nothing."""

_AGAIN_S = 0.5
_TOLD_EVERY_S = 10.0


class _Interrupted(Exception):
    """The connection broke; what has arrived is kept."""


async def fetch(url: str, target: Path, events: Events, *, sha256: str = "", again_s: float = _AGAIN_S) -> str:
    """Have the file at *url* as *target*; return its SHA-256 as hexadecimal digits.

    A *target* that is there already is verified, not fetched. Without *sha256* only the announced length is checked.
    Raises SpecError for what is not a URL, and for a file that the server does not have; LimosaError when the
    file is not what *sha256* says; MachineError when the server cannot be reached or the disk is full.
    """
    wanted = checked_sha256(sha256)
    _check_address(url)
    with space_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep_locks(target.parent)
        lock = target.with_name(target.name + ".lock")
        async with in_turn(lock, events, f"another command fetches {_called(target)}"):
            if target.is_file():
                found = await asyncio.to_thread(digest, target)
                if not wanted or found == wanted:
                    return found
                events.note(f"{target} is not what its checksum says: fetching it again", level="warning")
                target.unlink()
            with events.stage(f"download {_called(target)}"), _telling_what_is_kept(target):
                return await _fetch(url, target, events, wanted, again_s)


@contextlib.contextmanager
def _telling_what_is_kept(target: Path) -> Iterator[None]:
    """Have a cancellation say what is kept, and that it is of use."""
    try:
        yield
    except asyncio.CancelledError:
        part = target.with_name(target.name + ".part")
        kept = f"{format_bytes(part.stat().st_size)} are kept in {part}" if part.exists() else "nothing had arrived yet"
        raise asyncio.CancelledError from LimosaError(
            f"the download of {_called(target)} was interrupted: {kept}", hint="the same command goes on from there"
        )


async def text(url: str) -> str:
    """A small text file at *url*. Raises as ``fetch`` does."""
    import httpx

    _check_address(url)
    try:
        async with _client() as client:
            answer = await client.get(url)
    except httpx.TransportError as error:
        raise unreachable(url, error) from error
    _check_status(url, answer.status_code)
    return answer.text[:65536]


async def published_sha256(url: str) -> str:
    """The checksum published beside the file at *url*, as ``<url>.sha256``. Raises as ``fetch`` does."""
    found = re.search(r"\b[0-9a-fA-F]{64}\b", await text(url + ".sha256"))
    if found is None:
        raise LimosaError(f"{url}.sha256 holds no SHA-256 checksum", hint="give it with --sha256")
    return found.group(0).lower()


def checked_sha256(sha256: str) -> str:
    """*sha256* in lower case; empty stays empty. Raises SpecError for anything that is not one."""
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise SpecError(f"{sha256!r} is no SHA-256 checksum", hint="64 hexadecimal digits, as sha256sum prints them")
    return sha256.lower()


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file: its SHA-256, or that of another algorithm."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _called(path: Path) -> str:
    """A target, its part or its lock, as a person knows it."""
    return re.sub(r"^\.|(\.download)?(\.part|\.lock)?$", "", path.name)


def unreachable(url: str, error: Exception | str) -> MachineError:
    """The error for a server that does not answer."""
    host = re.sub(r"^\w+://([^/]*).*", r"\1", url)
    said = str(error).strip() or type(error).__name__
    return MachineError(
        f"{host} cannot be reached: {said}",
        hint="check the network; what has arrived is kept, and the same command goes on from there",
    )


@contextlib.contextmanager
def space_errors(target: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a sentence for the person."""
    try:
        yield
    except OSError as error:
        folder = target.parent
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"no space left for {target.name} in {folder}",
                hint="free some disk space, or set XDG_CACHE_HOME to a larger disk; then the same command goes on",
            ) from error
        raise MachineError(
            f"{target.name} cannot be kept in {folder}: {error.strerror or error}",
            hint="make the directory writable, or set XDG_CACHE_HOME to one that is",
        ) from error


def _check_address(url: str) -> None:
    import httpx

    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise SpecError(f"{url!r} is no address: {error}", hint="as in https://example.org/image.qcow2") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SpecError(f"{url!r} is no address", hint="as in https://example.org/image.qcow2")


def _client() -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient(follow_redirects=True, timeout=httpx.Timeout(SILENCE_S))


def _check_status(url: str, status: int) -> None:
    if status in (404, 410):
        raise SpecError(f"the server has no {url}", hint="check the version and the mirror")
    if status >= 400:
        raise MachineError(f"the server answered {status} for {url}", hint="try another mirror, or later")


async def _fetch(url: str, target: Path, events: Events, wanted: str, again_s: float) -> str:
    part = target.with_name(target.name + ".part")
    resumed = part.exists() and part.stat().st_size > 0
    await _whole(url, part, events, again_s)
    found = await asyncio.to_thread(digest, part)
    if wanted and found != wanted and resumed:
        # What was there may have been another file of the same name.
        events.note(f"what was left of an earlier download of {_called(target)} does not fit: fetching it whole")
        part.unlink()
        await _whole(url, part, events, again_s)
        found = await asyncio.to_thread(digest, part)
    if wanted and found != wanted:
        part.unlink()
        raise LimosaError(
            f"{url} is not what its checksum says: {found} instead of {wanted}",
            hint="try another mirror; if it stays so, the file or the checksum was changed: do not use it",
        )
    _sync(part)
    part.rename(target)
    _sync(target.parent)
    return found


async def _whole(url: str, part: Path, events: Events, again_s: float) -> None:
    """Bring *part* to its announced length, over as many connections as it takes as long as each brings something."""
    failures = 0
    async with _client() as client:
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                await _receive(client, url, part, before, events)
                return
            except _Interrupted as broken:
                now = part.stat().st_size if part.exists() else 0
                failures = 0 if now > before else failures + 1
                if failures >= TRIES:
                    arrived = f" ({format_bytes(now)} have arrived)" if now else ""
                    raise unreachable(url, f"{broken}{arrived}") from broken
                await asyncio.sleep(again_s)


async def _receive(client: httpx.AsyncClient, url: str, part: Path, before: int, events: Events) -> None:
    import httpx

    # Compressed on the way, the announced length would not be the file's, nor could it be resumed.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={before}-"} if before else {})
    try:
        async with client.stream("GET", url, headers=headers) as answer:
            if answer.status_code == 416:
                _settle_beyond(answer.headers, part, before)
                return
            _check_status(url, answer.status_code)
            resumed = answer.status_code == 206
            have = before if resumed else 0
            total = _total(answer.headers, have)
            with part.open("ab" if resumed else "wb") as file:
                have = await _write(answer, file.fileno(), _called(part), have, total, events)
    except httpx.TransportError as error:
        raise _Interrupted(str(error) or type(error).__name__) from error
    if total is not None and have != total:
        raise _Interrupted(f"the connection ended after {have} of {total} bytes")


async def _write(
    answer: httpx.Response, descriptor: int, name: str, have: int, total: int | None, events: Events
) -> int:
    told = time.monotonic()
    # Not in chunks of a size of ours: what a broken connection brought last would be lost with the unfinished one.
    async for chunk in answer.aiter_raw():
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
        have += len(chunk)
        if time.monotonic() - told > _TOLD_EVERY_S:
            told = time.monotonic()
            events.note(f"{name}: {format_bytes(have)}" + (f" of {format_bytes(total)}" if total else ""))
    return have


def _total(headers: Mapping[str, str], have: int) -> int | None:
    """The length of the whole file, where the server announces it."""
    if found := re.search(r"/([0-9]{1,18})$", headers.get("content-range", "")):
        return int(found.group(1))
    length = headers.get("content-length", "")
    return have + int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None


def _settle_beyond(headers: Mapping[str, str], part: Path, before: int) -> None:
    """The server has nothing behind what is there: it is whole, or was longer than the file is now."""
    if _total(headers, before) != before:
        part.unlink()
        raise _Interrupted("what was there is no part of the file")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
