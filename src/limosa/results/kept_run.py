"""How a run is recorded: what happens goes into its events, and however it ends, run.json says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from limosa.errors import LimosaError
from limosa.events import Events
from limosa.results.store import EventFile, RunDirectory


@asynccontextmanager
async def kept(
    run: RunDirectory, events: Events, failures: Callable[[], list[str]], *, told: bool = False
) -> AsyncIterator[RunDirectory]:
    """Record what happens inside in *run*. *failures* is asked at the end: what went wrong, nothing if it completed.

    *told*: say where the run is when it is interrupted.
    """
    sink = EventFile(run, lambda text: events.note(text, level="warning"))
    events.add(sink)
    try:
        yield run
    except asyncio.CancelledError:
        _finished(run, events, "cancelled", "interrupted")
        if told:
            events.note(f"interrupted; what was measured is kept: limosa report {run.id}", level="warning")
        raise
    except BaseException as error:
        _finished(run, events, "failed", str(error))
        raise
    else:
        failed = failures()
        run.finish("failed" if failed else "completed", "; ".join(failed))
    finally:
        events.remove(sink)
        sink.close()


def _finished(run: RunDirectory, events: Events, status: Literal["failed", "cancelled"], error: str) -> None:
    """Where run.json cannot be written either, as on a full disk, what went wrong first is not hidden by that."""
    try:
        run.finish(status, error)
    except LimosaError as trouble:
        events.note(f"{run.id} does not say how it ended: {trouble.message}", level="warning")
