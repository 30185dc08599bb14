"""Work that goes on side by side, and work that a cancellation must not break off: no task outlives who began it.

A cancellation comes once, as an exception at an ``await``. Whoever holds it back lets it go on when it is done: it is
never dropped, whatever else was raised meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_BEGUN_S = 0.001
"""By when work that was begun waits for others, as a rule."""


async def to_the_end(work: Awaitable[T]) -> tuple[T, bool]:
    """Await *work* to its end although the caller is being cancelled, and say whether it was.

    Where *work* raises after the caller was cancelled, the cancellation is raised, from that error.
    """
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
        except BaseException:
            break
    try:
        return task.result(), cancelled
    except Exception as error:
        if cancelled:
            raise asyncio.CancelledError from error
        raise


async def uninterrupted(work: Awaitable[T]) -> T:
    """What *work* comes to; a cancellation of the caller goes on only when it has ended."""
    result, cancelled = await to_the_end(work)
    if cancelled:
        raise asyncio.CancelledError
    return result


async def ended(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel *tasks*, each once, and return when they have ended. What they raised stays in them, for whoever asks."""
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await uninterrupted(over(pending))
    for task in pending:
        if not task.cancelled():
            task.exception()  # seen, so that the interpreter does not complain of it


@asynccontextmanager
async def beside(*works: Awaitable[Any]) -> AsyncIterator[list[asyncio.Future[Any]]]:
    """*works* go on beside the block, as tasks, and end with it at the latest. What they raise is for who asks them."""
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(work) for work in works]
    try:
        yield tasks
    finally:
        await ended(tasks)


async def over(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until all *tasks* have ended, one way or another; a cancellation of the caller does not touch them."""
    if pending := list(tasks):
        await asyncio.wait(pending)


async def together(works: Iterable[Awaitable[T]]) -> list[T]:
    """What *works*, done at once, come to, in their order. The first error ends the others, and is raised then."""
    async with beside(*works) as tasks:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failed = (task for task in tasks if task.done() and not task.cancelled() and task.exception() is not None)
        return [task.result() for task in (*failed, *tasks)]


async def each(works: Iterable[Awaitable[T]]) -> list[T]:
    """As ``together``, but an error stops no other: every one has its turn, and then the first error is raised."""
    async with beside(*works) as tasks:
        await over(tasks)
        return [task.result() for task in tasks]


async def first_of(*works: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    """Do *works* at once until one of them ends, and end the others; all of them, as tasks that have ended."""
    async with beside(*works) as tasks:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks


async def load(*modules: str) -> None:
    """Import *modules* a moment from now, while what was begun before waits for others: that takes no time then."""
    missing = [name for name in modules if name not in sys.modules]
    if missing:
        await asyncio.sleep(_BEGUN_S)
    for name in missing:
        importlib.import_module(name)


def heard(task: asyncio.Future[Any]) -> None:
    """For tasks whose errors matter to nobody: they are not complained of."""
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
