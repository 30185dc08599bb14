"""The live display: finished stages with their times, the running one with a spinner, a migration as a bar."""

from __future__ import annotations

import contextlib
import sys
import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from limosa.cli.printable import printable, raw
from limosa.cli.progress_line import progress_line
from limosa.events import Event, MigrationProgressed, Note, StageFinished, StageStarted, told

_EVERY_S = 0.1
"""Between two pictures of the spinner."""


class _Bar(BarColumn):
    """A bar for what has an end in sight; the spinner says enough of the rest."""

    def render(self, task: Task) -> ProgressBar:
        """The bar, of no width where there is no total."""
        bar = super().render(task)
        if task.total is None:
            bar.width = 0
        return bar


class LiveFace:
    """A sink that draws on standard error."""

    def __init__(self) -> None:
        self._console = Console(file=raw(sys.stderr), highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
            _Bar(bar_width=16, table_column=Column(no_wrap=True)),
            # Last, so that it has all the width that is left: a migration's figures stand under its name.
            TextColumn("{task.description}{task.fields[detail]}", markup=False),
            console=self._console,
            transient=True,
            # Rich's own thread may draw while we print: where several lines are alive, one is left and one lost.
            auto_refresh=False,
        )
        self._drawing = threading.Lock()
        self._over = threading.Event()
        self._spinner = threading.Thread(target=self._spin, daemon=True)
        self._tasks: list[tuple[str, str, TaskID]] = []
        """The stages under way, each with its guest, and its line."""

    def __enter__(self) -> LiveFace:
        self._progress.start()
        self._spinner.start()
        return self

    def _spin(self) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            while not self._over.wait(_EVERY_S):
                with self._drawing:
                    self._progress.refresh()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._spinner.join()
        with contextlib.suppress(OSError):  # the terminal may be gone
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        with self._drawing:
            self._hear(event)

    def _hear(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            line = self._progress.add_task(printable(told(event.stage, event.guest)), total=None, detail="")
            self._tasks.append((event.stage, event.guest, line))
        elif isinstance(event, StageFinished):
            self._finish(event)
        elif isinstance(event, Note):
            style = "yellow" if event.level == "warning" else "none"
            self._console.print(printable(told(event.text, event.guest)), style=style, markup=False)
        elif isinstance(event, MigrationProgressed) and self._tasks:
            done = 0 if event.remaining_bytes is None else (event.total_bytes or 0) - event.remaining_bytes
            self._progress.update(
                self._tasks[-1][2], total=event.total_bytes, completed=done, detail=f"\n{progress_line(event)}"
            )

    def _finish(self, event: StageFinished) -> None:
        for index, (stage, guest, task) in reversed(list(enumerate(self._tasks))):
            if (stage, guest) == (event.stage, event.guest):
                self._progress.remove_task(task)
                del self._tasks[index]
                break
        mark = ("✓", "green") if event.ok else ("✗", "red")
        # Below what it is a part of: of several guests each has stages of its own.
        indent = "  " * sum(guest in ("", event.guest) for _, guest, _ in self._tasks)
        # One print a line: what is printed without a line end is drawn over by the live part.
        self._console.print(
            Text.assemble(
                indent, mark, f" {printable(told(event.stage, event.guest))} ", (f"{event.duration_s:.1f} s", "dim")
            )
        )
