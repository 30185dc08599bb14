"""Files at this end of a copy: read without their holes, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from limosa.hosts.link.far import frames


def pieces(descriptor: int, most_bytes: int = frames.CHUNK_BYTES) -> Iterator[tuple[int, bytes]]:
    """The data of a local file, holes left out: where, and what."""
    place, size = 0, os.fstat(descriptor).st_size
    while place < size:
        try:
            place = os.lseek(descriptor, place, os.SEEK_DATA)
            end = os.lseek(descriptor, place, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            end = size
        while place < end:
            if not (data := os.pread(descriptor, min(most_bytes, end - place), place)):
                return
            yield place, data
            place += len(data)


class Arriving:
    """A local file that is being written: what is not written is a hole. ``size`` and ``mode`` are set by who knows."""

    def __init__(self, descriptor: int, *, seekable: bool) -> None:
        self._descriptor, self.seekable = descriptor, seekable
        self.size, self.mode = 0, 0o600

    def write(self, data: bytes, place: int) -> None:
        """Write it there. Raises OSError."""
        view = memoryview(data)
        while view:
            done = os.pwrite(self._descriptor, view, place) if self.seekable else os.write(self._descriptor, view)
            view, place = view[done:], place + done


@contextlib.contextmanager
def arriving(local: Path) -> Iterator[Arriving]:
    """A file that gets its name when the context ends well, and is gone when it does not. Raises OSError."""
    target = local.resolve()  # what a symbolic link names is replaced, not the link
    if target.exists() and not target.is_file():  # a device, a pipe: what it is stays
        with target.open("wb", buffering=0) as file:
            yield Arriving(file.fileno(), seekable=False)
        return
    other = target.parent / f".limosa-{secrets.token_hex(8)}"
    try:
        with open(other, "xb", buffering=0, opener=lambda path, flags: os.open(path, flags, 0o777)) as file:
            allowed = os.fstat(file.fileno()).st_mode  # all but what the umask takes
            os.fchmod(file.fileno(), 0o600)
            made = Arriving(file.fileno(), seekable=True)
            yield made
            file.truncate(made.size)
            os.fchmod(file.fileno(), made.mode & allowed)
        other.replace(target)
    except BaseException:
        other.unlink(missing_ok=True)
        raise
