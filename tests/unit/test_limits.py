"""The limits of a migration that no QEMU keeps are refused, by whatever way they are given."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from limosa.cli.app import call
from limosa.errors import SpecError
from limosa.migration.settings import Settings


@pytest.mark.parametrize(("given", "told"), [
    ({"downtime-limit": 3_000_000}, "downtime-limit: 3000 s is more than 2000 s: QEMU takes no more"),
    ({"downtime-limit": -1}, "downtime-limit: -1 ms is less than 0 ms"),
    ({"downtime-limit": "3000 s"}, "downtime-limit: '3000 s' is more than 2000 s"),
    ({"max-bandwidth": 5}, "max-bandwidth: 5 B/s is less than 40 KiB/s: QEMU sends at least"),
    ({"max-bandwidth": 0}, "max-bandwidth: 0 B/s is less than"),
    ({"max-bandwidth": "fast"}, "max-bandwidth: 'fast' is not a bandwidth"),
])  # fmt: skip
def test_settings_that_no_qemu_keeps(given: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told) as caught:
        Settings(options=given)
    assert "QEMU" in caught.value.hint
    with pytest.raises(SpecError, match=told):
        msgspec.structs.replace(Settings(), options=given)


def test_settings_at_the_limits() -> None:
    least = Settings(options={"max-bandwidth": 40960, "downtime-limit": "2000 s"}).qemu_parameters()
    assert least == {"max-bandwidth": 40960, "downtime-limit": 2_000_000}
    nothing = Settings(options={"downtime-limit": 0}).qemu_parameters()
    assert nothing == {"max-bandwidth": 1 << 50, "downtime-limit": 0}


@pytest.mark.parametrize("words", [
    ("migrate", "g", "h", "--downtime-limit", "3000 s"),
    ("migrate", "g", "h", "--max-bandwidth", "5 B/s"),
    ("bench", "during-migration", "--max-bandwidth", "40 kB/s"),
])  # fmt: skip
def test_options_that_no_qemu_keeps(words: tuple[str, ...]) -> None:
    with pytest.raises(SpecError, match=rf"^{words[-2]}: .*QEMU"):
        call(words)
