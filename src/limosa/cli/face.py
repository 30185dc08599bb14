"""What a verb shows: stages and migration progress, live on a terminal and as plain lines elsewhere; errors; JSON.

Progress goes to standard error and results to standard output, so that either can be used alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from limosa.errors import LimosaError
from limosa.events import Event, Events, MigrationProgressed, Note, Sink, StageFinished, StageStarted, told

if TYPE_CHECKING:
    from limosa.cli.live import LiveFace

T = TypeVar("T")
_PLAIN_EVERY_MS = 1000.0


class PlainFace:
    """One line for each finished stage and each second of a migration; for pipes and logs."""

    def __init__(self) -> None:
        self._next_ms = 0.0

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        if isinstance(event, StageStarted):
            self._next_ms = 0.0
        elif isinstance(event, StageFinished):
            self._say(
                f"{told(event.stage, event.guest)}: {'' if event.ok else 'failed after '}{event.duration_s:.1f} s"
            )
        elif isinstance(event, Note):
            self._say(("warning: " if event.level == "warning" else "") + told(event.text, event.guest))
        elif isinstance(event, MigrationProgressed) and event.total_bytes and event.elapsed_ms >= self._next_ms:
            self._next_ms = event.elapsed_ms + _PLAIN_EVERY_MS
            from limosa.cli.progress_line import progress_line

            self._say("  " + progress_line(event))

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def face(as_json: bool, quiet: bool = False) -> Iterator[Events]:
    """Events that are shown as befits where standard error goes; with JSON only warnings are."""
    if as_json or quiet:
        yield Events(_Lasting(_warnings_only))
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from limosa.cli.live import LiveFace

        live: LiveFace = LiveFace()
        with live:
            yield Events(_Lasting(live))
    else:
        yield Events(_Lasting(PlainFace()))


class _Lasting:
    """A sink that falls silent when nobody reads any more (``2>&1 | head``): a guest on its way goes on."""

    def __init__(self, sink: Sink) -> None:
        self._sink: Sink | None = sink

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        if self._sink is not None:
            try:
                self._sink(event)
            except OSError:
                self._sink = None


def _warnings_only(event: Event) -> None:
    if isinstance(event, Note) and event.level == "warning":
        print(f"warning: {told(event.text, event.guest)}", file=sys.stderr, flush=True)


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run one verb to its end. SIGTERM, and SIGHUP as a terminal that is closed sends it, cancel it as Ctrl-C does;
    then it exits with 128 and the signal's number.

    A SIGHUP that is ignored, as below ``nohup``, stays so.
    """
    received = 0

    async def with_signals() -> T:
        task = asyncio.current_task()
        assert task is not None

        def terminate(number: int) -> None:
            nonlocal received
            received = received or number
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, terminate, number)
        return await work()

    try:
        return asyncio.run(with_signals())
    except asyncio.CancelledError as error:
        _say_why(error)
        if received:
            sys.exit(128 + received)
        raise
    except KeyboardInterrupt as error:
        _say_why(error.__context__)
        raise


def _say_why(error: BaseException | None) -> None:
    """What went wrong while a cancelled verb tidied up: it may be that a person has to decide something."""
    if error is not None and isinstance(error.__cause__, LimosaError):
        with contextlib.suppress(OSError):
            show_error(error.__cause__, as_json=False)


def show_result(value: Any) -> None:
    """One JSON document on standard output."""
    from limosa.cli.printable import escaped

    try:
        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()
    except UnicodeEncodeError:  # a name of a file that is not UTF-8
        import json

        text = json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2)
    sys.stdout.write(escaped(text) + "\n")


def show_error(error: LimosaError, as_json: bool) -> None:
    """The sentence and the hint on standard error; with JSON, the same as a document on standard output."""
    if as_json:
        show_result(as_document(error))
    else:
        from limosa.cli.printable import printable

        if error.made:
            print("made: " + ", ".join(error.made))
        for each in (error, *error.others):
            # An error may quote a guest's console or a QEMU.
            print(printable(f"limosa: {each.sentence}"), file=sys.stderr)
            if each.hint:
                print(printable(f"  hint: {each.hint}"), file=sys.stderr)


def as_document(error: LimosaError) -> dict[str, Any]:
    """The error as JSON shows it; parts that are empty are left out."""
    more = {"about": error.about, "made": error.made, "others": [as_document(other) for other in error.others]}
    told = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
    return told | {key: value for key, value in more.items() if value}


def first_error(group: BaseExceptionGroup) -> LimosaError | None:
    """The first error of ours in *group*, which a task group made of it."""
    for error in group.exceptions:
        found = first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, LimosaError):
            return found
    return None
