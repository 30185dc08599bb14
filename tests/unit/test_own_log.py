"""What of a QEMU's log is told as the reason of its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from limosa.hosts.host import Host
from limosa.process import Completed
from limosa.qemu import own_log

PROGRAM = "2026-01-01T00:00:00.000000Z qemu-system-x86_64: "
OF_AGE = f"{PROGRAM}warning: Machine type 'pc-q35-7.2' is deprecated: machines more than 3 years old may go\n"


class Logging:
    """A host whose every command prints the same."""

    name = "host1"

    def __init__(self, said: str) -> None:
        self.said = said

    async def run(self, argv: Sequence[str], **_: Any) -> Completed:
        return Completed(tuple(argv), 0, self.said.encode(), b"", 0.0)


@pytest.mark.parametrize(("said", "reason"), [
    ("", ""),
    (OF_AGE, ""),
    (f"{PROGRAM}no room\n{OF_AGE}", "no room"),
    (f"{OF_AGE}{PROGRAM}load of migration failed: Invalid argument\n", "load of migration failed: Invalid argument"),
])  # fmt: skip
async def test_that_something_will_go_one_day_is_no_reason(said: str, reason: str) -> None:
    assert await own_log.said_since(cast(Host, Logging(said)), "log", 0) == reason


async def test_why_a_qemu_ended_that_warned_last() -> None:
    error = await own_log.why_ended(cast(Host, Logging(f"{PROGRAM}no room\n{OF_AGE}")), "guest1", "log")
    assert error.message == "QEMU for guest guest1 on host1 ended at once: no room"
