"""The limits of a migration that no QEMU keeps are refused, by whatever way they are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from limosa.cli.app import call
from limosa.errors import SpecError
from limosa.lab.guest import LabGuest
from limosa.lab.move import _check_bandwidth
from limosa.migration.settings import Settings


@pytest.mark.parametrize(("given", "told"), [
    ({"downtime-limit": 3_000_000}, "downtime-limit: 3000000 ms is more than 2000000 ms: QEMU takes no more"),
    ({"downtime-limit": -1}, "downtime-limit: -1 ms is less than 0 ms"),
    ({"downtime-limit": "3000 s"}, "downtime-limit: 3000000 ms is more than 2000000 ms"),
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


@pytest.mark.parametrize(("capabilities", "limit", "refused"), [
    ({"events"}, 40_960, False),
    ({"events", "switchover-ack"}, 1 << 20, True),
    ({"events", "switchover-ack"}, 1_310_720, False),
    ({"events", "switchover-ack"}, None, False),
])  # fmt: skip
async def test_what_the_sources_qemu_cannot_be_held_to(
    capabilities: set[str], limit: int | None, refused: bool
) -> None:
    async def offer(accel: str) -> object:
        return SimpleNamespace(version="10.0.13", migration_capabilities=capabilities, accel=accel)

    hosts = SimpleNamespace(named={"host1": SimpleNamespace(offer=offer)}.__getitem__)
    guest = cast("LabGuest", SimpleNamespace(hosts=hosts))
    settings = Settings(options={"max-bandwidth": limit})
    checked = _check_bandwidth(guest, "host1", "tcg", settings)
    if refused:
        with pytest.raises(
            SpecError, match=r"QEMU 10.0.13 on host1 cannot be held to 1 MiB/s: it sends at least 1.25 MiB/s"
        ):
            await checked
    else:
        await checked
