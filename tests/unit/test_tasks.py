"""Work side by side and work to its end: what is begun ends, and a cancellation is never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from limosa import tasks
from limosa.errors import StateError


class Work:
    """Waits to be let go; notes how it ended."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.error, self.ended = error, ""

    async def do(self) -> str:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # tidying up takes a moment
            self.ended = "cancelled"
            raise
        self.ended = "done"
        if self.error is not None:
            raise self.error
        return "done"


async def cancelled_in(call: Callable[[Awaitable[str]], Awaitable[object]], work: Work, times: int = 1) -> object:
    """Cancel *call* while *work* is under way, then let that go on; what *call* came to, suppressing our errors as
    callers do: a cancellation must come out of it all the same."""

    async def caller() -> object:
        try:
            return await call(work.do())
        except StateError:
            return "went on"

    task = asyncio.ensure_future(caller())
    await work.begun.wait()
    for _ in range(times):
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    assert not task.done(), "it waits for the work"
    work.go.set()
    return await task


@pytest.mark.parametrize("times", [1, 3])
async def test_work_ends_and_the_cancellation_is_told(times: int) -> None:
    assert await cancelled_in(tasks.to_the_end, Work(), times) == ("done", True)
    with pytest.raises(asyncio.CancelledError):
        await cancelled_in(tasks.uninterrupted, Work(), times)


@pytest.mark.parametrize("call", [tasks.to_the_end, tasks.uninterrupted])
async def test_a_cancellation_is_not_lost_where_the_work_raises(
    call: Callable[[Awaitable[str]], Awaitable[object]],
) -> None:
    error = StateError("no")
    with pytest.raises(asyncio.CancelledError) as raised:
        await cancelled_in(call, Work(error))
    assert raised.value.__cause__ is error


async def test_without_a_cancellation_nothing_is_changed() -> None:
    work = Work()
    work.go.set()
    assert await tasks.to_the_end(work.do()) == ("done", False)
    failing = Work(StateError("no"))
    failing.go.set()
    with pytest.raises(StateError):
        await tasks.uninterrupted(failing.do())


async def test_work_that_is_cancelled_itself_ends_the_wait() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await tasks.to_the_end(work())


async def test_a_time_limit_holds_after_work_that_it_could_not_break_off() -> None:
    work = Work()
    asyncio.get_running_loop().call_later(0.02, work.go.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await tasks.uninterrupted(work.do())
    assert work.ended == "done"


async def test_the_first_error_ends_the_others_before_it_is_raised() -> None:
    slow, failing = Work(), Work(StateError("no"))
    failing.go.set()
    with pytest.raises(StateError):
        await tasks.together([slow.do(), failing.do()])
    assert slow.ended == "cancelled"


async def test_each_has_its_turn_whoever_fails() -> None:
    slow, failing = Work(), Work(StateError("no"))
    failing.go.set()
    asyncio.get_running_loop().call_later(0.01, slow.go.set)
    with pytest.raises(StateError):
        await tasks.each([failing.do(), slow.do()])
    assert slow.ended == "done"
    assert await tasks.each([]) == [] and await tasks.together([]) == []
    both = [Work(), Work()]
    for work in both:
        work.go.set()
    assert await tasks.each(work.do() for work in both) == ["done", "done"]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("call", [tasks.together, tasks.each])
async def test_a_cancelled_caller_leaves_no_task(
    call: Callable[[list[Awaitable[str]]], Awaitable[list[str]]], times: int
) -> None:
    works = [Work(), Work()]
    task = asyncio.ensure_future(call([work.do() for work in works]))
    for work in works:
        await work.begun.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [work.ended for work in works] == ["cancelled", "cancelled"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_goes_on_beside_a_block_ends_with_it() -> None:
    work = Work()
    with pytest.raises(ZeroDivisionError):
        async with tasks.beside(work.do()) as (task,):
            await work.begun.wait()
            assert not task.done()
            raise ZeroDivisionError
    assert work.ended == "cancelled" and task.cancelled()


async def test_the_first_of_several_ends_the_others() -> None:
    slow, quick = Work(), Work()
    quick.go.set()
    found = await tasks.first_of(slow.do(), quick.do())
    assert (found[0].cancelled(), found[1].result(), slow.ended) == (True, "done", "cancelled")
