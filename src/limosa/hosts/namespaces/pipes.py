"""Reading and writing plain pipe descriptors from asyncio, binary-safe and without threads."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os

CHUNK_BYTES = 1 << 16
_TURN_CHUNKS = 16
"""How much is read before the event loop may do something else: a fast writer must not hold up the rest."""


async def read_all(descriptor: int) -> bytes:
    """Everything that comes out of *descriptor* until its end; the caller closes it."""
    loop, parts = asyncio.get_running_loop(), list[bytes]()
    done: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_TURN_CHUNKS):
                if not (data := os.read(descriptor, CHUNK_BYTES)):
                    loop.remove_reader(descriptor)
                    if not done.done():
                        done.set_result(None)
                    return
                parts.append(data)

    os.set_blocking(descriptor, False)
    loop.add_reader(descriptor, readable)
    try:
        await done
    finally:
        loop.remove_reader(descriptor)
    return b"".join(parts)


async def write_all(pipe: io.FileIO, data: bytes) -> None:
    """Write *data* and close *pipe*; a reader that went away is no error."""
    loop, view = asyncio.get_running_loop(), memoryview(data)
    os.set_blocking(pipe.fileno(), False)
    with pipe, contextlib.suppress(BrokenPipeError):
        while view:
            if written := pipe.write(view):
                view = view[written:]
                continue
            room: asyncio.Future[None] = loop.create_future()
            loop.add_writer(pipe.fileno(), lambda f=room: f.done() or f.set_result(None))  # type: ignore[misc]
            try:
                await room
            finally:
                loop.remove_writer(pipe.fileno())
