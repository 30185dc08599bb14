"""Reading and writing plain pipe descriptors from asyncio, binary-safe and without threads."""

from __future__ import annotations

import asyncio
import contextlib
import os

CHUNK_BYTES = 1 << 16


async def read_all(descriptor: int) -> bytes:
    """Everything that comes out of *descriptor* until its end; the caller closes it."""
    loop, parts = asyncio.get_running_loop(), list[bytes]()
    done: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(descriptor, CHUNK_BYTES):
                parts.append(data)
            loop.remove_reader(descriptor)
            if not done.done():
                done.set_result(None)

    os.set_blocking(descriptor, False)
    loop.add_reader(descriptor, readable)
    try:
        await done
    finally:
        loop.remove_reader(descriptor)
    return b"".join(parts)


async def write_all(descriptor: int, data: bytes) -> None:
    """Write *data* and close *descriptor*; a reader that went away is no error."""
    loop, view = asyncio.get_running_loop(), memoryview(data)
    os.set_blocking(descriptor, False)
    try:
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                room: asyncio.Future[None] = loop.create_future()
                loop.add_writer(descriptor, lambda f=room: f.done() or f.set_result(None))  # type: ignore[misc]
                try:
                    await room
                finally:
                    loop.remove_writer(descriptor)
            except BrokenPipeError:
                return
    finally:
        os.close(descriptor)
