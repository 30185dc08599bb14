from __future__ import annotations

from typing import Any

import pytest

from limosa.errors import SpecError
from limosa.guest.bare import kernel_arguments, migratable_memory_bytes


def test_write() -> None:
    assert kernel_arguments(memory_mib=32) == "mode=write memory_mib=32 lines=64"
    assert kernel_arguments("write", lines=1, report=5) == "mode=write memory_mib=64 lines=1 report=5"


def test_primes() -> None:
    assert kernel_arguments("primes", limit=500, report=10) == "mode=primes limit=500 report=10"


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory_mib", 0), ("memory_mib", 1 << 20), ("lines", 0), ("lines", 65), ("report", 0), ("limit", 2)],
)
def test_refuses_what_the_guest_would_refuse(name: str, value: int) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(SpecError, match=f"{name} is {value}") as caught:
        kernel_arguments(**arguments)
    assert "whole number from" in caught.value.hint


def test_refuses_an_unknown_mode() -> None:
    mode: Any = "sleep"
    with pytest.raises(SpecError, match="no mode 'sleep'"):
        kernel_arguments(mode)


@pytest.mark.parametrize("memory_bytes", [1 << 27, 1 << 30, 256 << 10])
def test_memory_ends_inside_a_word_of_the_dirty_log(memory_bytes: int) -> None:
    grown = migratable_memory_bytes(memory_bytes)
    assert grown == memory_bytes + 8192
    assert migratable_memory_bytes(grown) == grown
