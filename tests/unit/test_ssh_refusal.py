"""Why a machine over SSH is not reached, in the words that a person knows."""

from __future__ import annotations

import asyncio
import os
import socket
from errno import EHOSTUNREACH
from typing import Any, cast

import pytest

from limosa.errors import UnreachableError
from limosa.hosts.ssh import refusal


def told(error: Exception) -> str:
    found = refusal.sentence("host host1", "box", "ssh box", cast(Any, None), error, jumped=False)
    assert isinstance(found, UnreachableError) and found.hint == "try it by hand: ssh box true"
    return found.message


async def test_a_refused_connection_is_told_in_the_words_of_the_system() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(OSError, match="Connect call failed") as caught:
        await asyncio.open_connection("127.0.0.1", port)
    assert told(caught.value) == "host host1 cannot be reached: Connection refused"


def test_what_else_the_network_says() -> None:
    unreachable = OSError(EHOSTUNREACH, "Connect call failed ('192.0.2.1', 22)")
    assert told(unreachable).endswith(f": {os.strerror(EHOSTUNREACH)}")
    assert told(socket.gaierror(-2, "Name or service not known")).endswith(": Name or service not known")
    assert told(OSError("Multiple exceptions: one, two")).endswith(": Multiple exceptions: one, two")
