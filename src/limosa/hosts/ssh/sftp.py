"""The bytes of files by SFTP, on the connection that is there.

The link makes the file that is written, knows where the one that is read has data, and gives a whole one its name:
SFTP knows no holes, and nobody would take away what a broken connection left half.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import BinaryIO, TypeVar, cast

import asyncssh

from limosa.hosts.link.local_file import Arriving, pieces

REQUEST_BYTES = 32768
"""What every server takes in one request (draft-ietf-secsh-filexfer-02, section 3)."""
REQUESTS = 64
"""How many are under way together. asyncssh would do that too, but leaves the requests that a lost connection broke
to be found, and printed, by the event loop."""

_Item = TypeVar("_Item")


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Around what the server is asked: raises asyncssh.SFTPConnectionLost for what a broken socket raises.

    asyncssh passes that on as it is (BrokenPipeError, say), and it would be taken for an error of the file here.
    """
    try:
        yield
    except OSError as error:
        raise asyncssh.SFTPConnectionLost(str(error) or type(error).__name__) from error


async def send(client: asyncssh.SFTPClient, file: BinaryIO, there: str) -> None:
    """The data of *file* into the file *there*, which exists and is empty. Raises asyncssh.Error."""
    async with _opened(client, there, asyncssh.FXF_WRITE) as target:

        async def write(piece: tuple[int, bytes]) -> None:
            with asking():
                await target.write(piece[1], piece[0])

        await _together(write, pieces(file.fileno(), REQUEST_BYTES), REQUESTS)


async def receive(client: asyncssh.SFTPClient, there: str, extents: Sequence[tuple[int, int]], file: Arriving) -> bool:
    """The data of the file *there*; return whether all of it was there. Raises asyncssh.Error and OSError."""
    lacking = 0
    async with _opened(client, there, asyncssh.FXF_READ) as source:

        async def read(block: tuple[int, int]) -> None:
            nonlocal lacking
            place, end = block
            while place < end:
                with asking():
                    data = cast("bytes", await source.read(end - place, place))
                if not data:
                    break
                file.write(data, place)
                place += len(data)
            lacking += end - place

        await _together(read, _blocks(extents), REQUESTS if file.seekable else 1)
    return lacking == 0


@contextlib.asynccontextmanager
async def _opened(client: asyncssh.SFTPClient, path: str, how: int) -> AsyncIterator[asyncssh.SFTPClientFile]:
    with asking():
        file = await client.open(os.fsencode(path), how, encoding=None, block_size=0)
    try:
        yield file
    finally:
        with asking():
            await file.close()


def _blocks(extents: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for begin, end in extents:
        for place in range(begin, end, REQUEST_BYTES):
            yield place, min(place + REQUEST_BYTES, end)


async def _together(work: Callable[[_Item], Awaitable[None]], items: Iterator[_Item], most: int) -> None:
    """Do *work* on all *items*, at most *most* at a time; the first that fails ends the others. Raises its error."""
    room = asyncio.Semaphore(most)

    async def one(item: _Item) -> None:
        try:
            await work(item)
        finally:
            room.release()

    try:
        async with asyncio.TaskGroup() as group:
            for item in items:
                await room.acquire()
                group.create_task(one(item))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
