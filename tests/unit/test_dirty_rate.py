"""The working-set curve by QMP: what is asked of QEMU, and what is made of figures that it rounds."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

import limosa
from limosa.errors import LimosaError, QmpError
from limosa.events import Events
from limosa.prediction import dirty_rate
from limosa.prediction.dirty_rate import WHOLE_S
from limosa.prediction.working_set import WINDOWS_S
from limosa.qemu.features import Migrations, of_migration
from limosa.qemu.monitor import Monitor
from tests.fake_qmp import Error, FakeQmp
from tests.local_host import LocalHost

MIB = 1 << 20
MEMORY = 160 * MIB
SCHEMA: list[dict[str, Any]] = [
    {"name": "calc-dirty-rate", "meta-type": "command", "arg-type": "1"},
    {"name": "1", "meta-type": "object", "members": [{"name": "calc-time", "type": "int"}]},
]
VERSION = {"qemu": {"major": 1, "minor": 0, "micro": 0}, "package": ""}
COARSE = of_migration(VERSION, SCHEMA)
FINE = of_migration(
    VERSION, [SCHEMA[0], {**SCHEMA[1], "members": [*SCHEMA[1]["members"], {"name": "calc-time-unit", "type": "t"}]}]
)


def filled(t_s: float, size: float = 31.25, rate: float = 39.0) -> float:
    """MiB of a guest that writes at random."""
    return size * -math.expm1(-rate * t_s / size)


class Guest:
    """Answers as QEMU does, whole MiB/s rounded down, after a first look at which it has not begun."""

    def __init__(self) -> None:
        self._t_s, self._looks = 0.0, 0

    def calc(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._t_s = given["calc-time"] / (1000 if "calc-time-unit" in given else 1)
        self._looks = 0
        return {}

    def query(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._looks += 1
        if self._looks < 3:
            return {"status": ("unstarted", "measuring")[self._looks - 1], "mode": "page-sampling"}
        return {"status": "measured", "dirty-rate": int(filled(self._t_s) / self._t_s), "mode": "page-sampling"}


@pytest_asyncio.fixture
async def qmp(tmp_path: Path) -> AsyncIterator[FakeQmp]:
    guest = Guest()
    script = {"calc-dirty-rate": guest.calc, "query-dirty-rate": guest.query}
    async with FakeQmp(tmp_path / "control.qmp", script).serving() as server:
        yield server


async def connect(qmp: FakeQmp) -> Monitor:
    return await Monitor.open(LocalHost("host1"), str(qmp.path), "web", Events(), "control")


@pytest.mark.parametrize("known", [COARSE, FINE])
async def test_only_pages_are_ever_sampled(qmp: FakeQmp, known: Migrations) -> None:
    """The other modes end a QEMU 7.2 that emulates, and the guest with it."""
    control = await connect(qmp)
    await dirty_rate.read(control, known, MEMORY)
    await control.close()
    given = [arguments for command, arguments in qmp.said if command == "calc-dirty-rate"]
    assert given and all(arguments["mode"] == "page-sampling" for arguments in given)
    assert {command for command, _ in qmp.said} <= {"qmp_capabilities", "calc-dirty-rate", "query-dirty-rate"}
    assert b"dirty-bitmap" not in msgspec.json.encode(qmp.said) and b"dirty-ring" not in msgspec.json.encode(qmp.said)


def test_nobody_else_asks_for_it() -> None:
    folder = Path(limosa.__file__).parent
    asking = {str(path.relative_to(folder)) for path in folder.rglob("*.py") if '"calc-dirty-rate"' in path.read_text()}
    assert asking == {"prediction/dirty_rate.py", "qemu/features.py"}, "the latter asks what it takes"
    assert (
        "page-sampling" == dirty_rate.arguments(1.0, fine=True)["mode"] == dirty_rate.arguments(1, fine=False)["mode"]
    )


async def test_windows_of_whole_seconds(qmp: FakeQmp) -> None:
    control = await connect(qmp)
    found = await dirty_rate.read(control, COARSE, MEMORY)
    await control.close()
    given = [arguments for command, arguments in qmp.said if command == "calc-dirty-rate"]
    assert [arguments["calc-time"] for arguments in given] == [1, 2, 4, 8, 1, 1]
    assert all("calc-time-unit" not in arguments and arguments["sample-pages"] == 16384 for arguments in given)
    assert (found.how, found.zero_share, found.cpu_s, found.pages) == ("qmp", None, None, 2560)
    assert [(point.t_s, point.fitted) for point in found.points] == [(t_s, t_s not in WHOLE_S) for t_s in WINDOWS_S]
    for point in found.points:
        assert point.median_bytes == pytest.approx(filled(point.t_s) * MIB, rel=0.1)
        assert (point.low_bytes or 0) <= filled(point.t_s) * MIB <= (point.high_bytes or 0)


async def test_windows_of_milliseconds(qmp: FakeQmp) -> None:
    control = await connect(qmp)
    found = await dirty_rate.read(control, FINE, MEMORY)
    await control.close()
    given = [arguments for command, arguments in qmp.said if command == "calc-dirty-rate"]
    assert [arguments["calc-time"] for arguments in given[:8]] == [50, 100, 250, 500, 1000, 2000, 4000, 8000]
    assert all(arguments["calc-time-unit"] == "millisecond" for arguments in given)
    assert not any(point.fitted for point in found.points)
    for point in found.points:
        assert point.median_bytes == pytest.approx(filled(point.t_s) * MIB, rel=0.05)


@pytest.mark.parametrize("windows", [WINDOWS_S, WHOLE_S])
def test_a_guest_that_does_less_than_qemu_tells(windows: tuple[float, ...]) -> None:
    found = dirty_rate.working_set({t_s: [0] for t_s in windows}, MEMORY, 2560)
    for point in found.points:
        assert point.low_bytes == 0 and 0 < point.median_bytes <= (point.high_bytes or 0)
        assert (point.high_bytes or 0) >= MIB * point.t_s


def test_a_guest_that_writes_to_all_its_memory() -> None:
    found = dirty_rate.working_set({t_s: [int(160 / t_s)] for t_s in WHOLE_S}, MEMORY, 2560)
    assert all(0.95 * MEMORY <= point.median_bytes <= MEMORY for point in found.points if not point.fitted)
    assert max(point.high_bytes or 0 for point in found.points) <= MEMORY


@pytest.mark.parametrize("answer", [{"status": "measured", "dirty-rate": -1}, {"status": "measured"}])
async def test_a_measurement_that_failed(qmp: FakeQmp, answer: dict[str, Any]) -> None:
    qmp.script["query-dirty-rate"] = answer
    control = await connect(qmp)
    with pytest.raises(LimosaError, match="did not find out"):
        await dirty_rate.read(control, COARSE, MEMORY)
    await control.close()


async def test_answers_that_are_none(qmp: FakeQmp) -> None:
    qmp.script["query-dirty-rate"] = {"status": 7}
    control = await connect(qmp)
    with pytest.raises(QmpError, match="is none"):
        await dirty_rate.read(control, COARSE, MEMORY)
    qmp.script["calc-dirty-rate"] = Error("still measuring")
    with pytest.raises(QmpError, match="still measuring"):
        await dirty_rate.read(control, COARSE, MEMORY)
    await control.close()
