"""Putting files on a storage: directly where it is a directory of this machine, else through a host that sees it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from limosa import paths, process, temporary
from limosa.errors import CommandError, MachineError, SpecError
from limosa.hosts.host import Host
from limosa.storage import disk_file
from limosa.storage.disk_file import HEAD_BYTES, Claim, Format, Head

SPARE_BYTES = 64 * 1024 * 1024
"""Room that is left free on the storage beside what is copied there."""


_IS_LINK = 77
"""How a host says that a file is a symbolic link."""


class Shelf(Protocol):
    """One storage. Names are file names in it. Methods raise LimosaError's children; a full disk is MachineError."""

    async def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    async def link(self, source: Path, name: str) -> None:
        """Have the content of the local file *source*, which nobody changes, under *name*; by a link where it can."""
        ...

    async def head(self, name: str) -> Head:
        """The beginning of the file, and its length. Raises SpecError for a link, which may lead anywhere."""
        ...

    async def copy(self, source: Path, name: str, claim: Claim | None = None) -> None:
        """A copy of the local file *source*, whole or not at all; its holes stay holes.

        It appears only when *claim* is true of the copy: what *source* is may have changed since it was looked at.
        """
        ...

    async def write(self, name: str, data: bytes) -> None:
        """Replace the file by *data*."""
        ...

    async def convert(self, claim: Claim, name: str, wanted: Format) -> None:
        """A copy of the local disk of *claim* in another format, made only when the claim is true."""
        ...

    async def total_bytes(self) -> int:
        """How much it could hold in all."""
        ...


class LocalShelf:
    """A directory of this machine, which all hosts see because they share its kernel."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self._folder / name).exists()

    async def link(self, source: Path, name: str) -> None:
        """A hard link where the file system can, else a copy."""
        target = self._folder / name
        with contextlib.suppress(FileNotFoundError):
            if target.samefile(source):
                return
            target.unlink()
        try:
            target.hardlink_to(source)
        except OSError:
            with _written(self._folder):
                await asyncio.to_thread(shutil.copyfile, source, target)

    async def head(self, name: str) -> Head:
        """The beginning of the file, and its length."""
        if (self._folder / name).is_symlink():
            raise _link(self._folder / name)
        with _written(self._folder), (self._folder / name).open("rb") as file:
            return Head(file.read(HEAD_BYTES), file.seek(0, os.SEEK_END))

    async def copy(self, source: Path, name: str, claim: Claim | None = None) -> None:
        """By ``cp``, which knows holes and reflinks."""
        new = self._folder / f".{name}.{os.getpid()}.new"
        with _written(self._folder):
            try:
                await self._copied(source, new, claim)
                new.rename(self._folder / name)
            finally:
                new.unlink(missing_ok=True)

    async def _copied(self, source: Path, new: Path, claim: Claim | None) -> None:
        _room(self._folder, source.stat().st_blocks * 512)
        await process.run(["cp", "--sparse=always", "--reflink=auto", "--", str(source), str(new)])
        if claim is not None:
            await checked(new, claim)

    async def write(self, name: str, data: bytes) -> None:
        """Replace the file by *data*."""
        with _written(self._folder):
            _room(self._folder, len(data))
            await asyncio.to_thread((self._folder / name).write_bytes, data)

    async def convert(self, claim: Claim, name: str, wanted: Format) -> None:
        """By qemu-img, from a copy of the file."""
        own, new = (self._folder / f".{name}.{os.getpid()}.{end}" for end in ("source", "new"))
        with _written(self._folder):
            try:
                await self._copied(claim.path, own, claim)
                await disk_file.convert(own, claim.format, new, wanted)
                new.rename(self._folder / name)
            finally:
                own.unlink(missing_ok=True)
                new.unlink(missing_ok=True)

    async def total_bytes(self) -> int:
        """How much the file system holds in all."""
        return shutil.disk_usage(self._folder).total


def _link(place: object) -> SpecError:
    return SpecError(f"{place} is a link to another file, which no disk may be", hint="put the file itself there")


async def checked(path: Path, claim: Claim) -> None:
    """Raise SpecError or LimosaError unless *claim* is true of the local file *path*, which nobody changes."""
    claim.check(disk_file.read_head(path, claim))
    if claim.sha256:
        claim.check_sha256(await asyncio.to_thread(_sha256, path))


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise paths.cannot_write(error, folder) from error


def _room(folder: Path, needed_bytes: int) -> None:
    if shutil.disk_usage(folder).free < needed_bytes + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class HostShelf:
    """A directory that hosts see and this machine need not: files go through *host*, and belong to its user."""

    def __init__(self, host: Host, folder: str) -> None:
        self._host, self._folder = host, folder

    async def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (await self._host.run(["test", "-e", f"{self._folder}/{name}"], check=False)).returncode == 0

    async def link(self, source: Path, name: str) -> None:
        """Sent unless the same content is there already."""
        if await self._sha256(name) == await asyncio.to_thread(_sha256, source):
            return
        await self.copy(source, name)

    async def head(self, name: str) -> Head:
        """The beginning of the file, and its length."""
        read = f'[ ! -L "$1" ] || exit {_IS_LINK}; stat -c %s -- "$1" && head -c {HEAD_BYTES} -- "$1"'
        argv = ["sh", "-c", read, "sh", f"{self._folder}/{name}"]
        done = await self._host.run(argv, check=False)
        if done.returncode == _IS_LINK:
            raise _link(f"{self._folder}/{name} on {self._host.name}")
        if done.returncode != 0:
            raise CommandError(argv, done.returncode, done.stderr.decode(errors="replace"))
        size, _, data = done.stdout.partition(b"\n")
        return Head(data, int(size))

    async def copy(self, source: Path, name: str, claim: Claim | None = None) -> None:
        """Sent under another name, then renamed."""
        new = f".{name}.{os.getpid()}.new"
        await self._need(source.stat().st_blocks * 512)
        try:
            await self._host.put(source, f"{self._folder}/{new}")
            if claim is not None:
                claim.check(await self.head(new))
                claim.check_sha256(await self._sha256(new) if claim.sha256 else "")
            await self._host.run(["mv", "-f", "--", f"{self._folder}/{new}", f"{self._folder}/{name}"])
        except BaseException:
            await self._host.run(["rm", "-f", "--", f"{self._folder}/{new}"], check=False)
            raise

    async def _sha256(self, name: str) -> str:
        """The checksum of a file there; empty when there is none."""
        done = await self._host.run(["sha256sum", "--", f"{self._folder}/{name}"], check=False)
        return done.text.split()[0] if done.returncode == 0 else ""

    async def _space(self) -> list[str]:
        """What ``df`` says of it: device, KiB in all, used, available, ..."""
        done = await self._host.run(["df", "-Pk", "--", self._folder], check=False)
        words = done.text.splitlines()[-1].split() if done.returncode == 0 else []
        if not words:
            raise MachineError(
                f"the storage {self._folder} is not there on {self._host.name}",
                hint=f"see `storage` in {paths.document('hosts.md')}",
            )
        return words

    async def total_bytes(self) -> int:
        """How much the file system holds in all."""
        return int((await self._space())[-5]) * 1024

    async def _need(self, needed_bytes: int) -> None:
        words = await self._space()
        if int(words[-3]) * 1024 < needed_bytes + SPARE_BYTES:
            raise MachineError(f"no space left in {self._folder} of {self._host.name}", hint="make room there")

    async def write(self, name: str, data: bytes) -> None:
        """Replace the file by *data*."""
        with temporary.folder("file") as folder:
            (folder / "data").write_bytes(data)
            await self.copy(folder / "data", name)

    async def convert(self, claim: Claim, name: str, wanted: Format) -> None:
        """Converted here, then sent."""
        with temporary.folder("disk") as folder:
            here = LocalShelf(folder)
            await here.convert(claim, name, wanted)
            await self.copy(folder / name, name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
