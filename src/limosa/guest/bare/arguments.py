"""How the bare guest is told what to do: its kernel's command line, and what is said on its serial line. Pure."""

from __future__ import annotations

from typing import Literal

from limosa.errors import SpecError

Mode = Literal["write", "primes"]

MEMORY_OVERHEAD_MIB = 4
"""Guest memory that a working set cannot have: 2 MiB below it, and what the firmware keeps at the top."""

COMMAND_VERIFY = b"v"
"""On the serial line, in mode ``write``: check every page now; a ``Verified`` line follows."""

COMMAND_STATUS = b"s"
"""On the serial line: a ``Status`` line follows."""

COMMAND_RESTART = b"r"
"""On the serial line: the machine starts anew; a ``Ready`` line follows."""

COMMAND_SHUTDOWN = b"q"
"""On the serial line: a ``Stopped`` line follows, then the machine powers off."""

PAGE_LINES = 64


def kernel_arguments(
    mode: Mode = "write",
    *,
    memory_mib: int = 64,
    lines: int = PAGE_LINES,
    report: int | None = None,
    limit: int = 10_000,
) -> str:
    """The text for ``-append``.

    ``write``: *memory_mib* is the working set, *lines* how many of a page's 64 lines of 64 bytes are written
    (64 for most bytes a second, 1 for most pages a second), *report* the passes between two lines of report
    (None: one for each GiB of working set that was passed over).
    ``primes``: one event counts the primes below *limit*, *report* is in events (None: 100).
    Raises SpecError for what the guest would refuse.
    """
    if mode not in ("write", "primes"):
        raise SpecError(f"the bare guest has no mode {mode!r}", hint="use write or primes")
    for name, value, lowest, highest in (
        ("memory_mib", memory_mib, 1, 1 << 19),
        ("lines", lines, 1, PAGE_LINES),
        ("report", 1 if report is None else report, 1, 1 << 39),
        ("limit", limit, 3, 1 << 32),
    ):
        if not lowest <= value <= highest:
            raise SpecError(
                f"the bare guest's {name} is {value}", hint=f"use a whole number from {lowest} to {highest}"
            )
    words = [f"mode={mode}"]
    words += [f"memory_mib={memory_mib}", f"lines={lines}"] if mode == "write" else [f"limit={limit}"]
    return " ".join(words if report is None else [*words, f"report={report}"])
