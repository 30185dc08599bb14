"""The bytes of files by SFTP, on the connection that is there.

The link makes the file that is written, knows where the one that is read has data, and gives a whole one its name:
SFTP knows no holes, and nobody would take away what a broken connection left half.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

import asyncssh

from limosa.hosts.files import Arriving, pieces

PIECE_BYTES = 4 << 20
"""How much is handed over at once: many requests of SFTP, which are under way together."""


async def send(client: asyncssh.SFTPClient, file: BinaryIO, there: str) -> None:
    """The data of *file* into the file *there*, which exists and is empty. Raises asyncssh.Error."""
    async with client.open(os.fsencode(there), asyncssh.FXF_WRITE, encoding=None) as target:
        for place, data in pieces(file.fileno(), PIECE_BYTES):
            await target.write(data, place)


async def receive(client: asyncssh.SFTPClient, there: str, extents: Sequence[tuple[int, int]], file: Arriving) -> bool:
    """The data of the file *there*; return whether all of it was there. Raises asyncssh.Error and OSError."""
    came = 0
    async with client.open(os.fsencode(there), asyncssh.FXF_READ, encoding=None) as source:
        for begin, end in extents:
            async for place, data in await source.read_parallel(end - begin, begin):
                file.write(data, place)
                came += len(data)
    return came == sum(end - begin for begin, end in extents)
