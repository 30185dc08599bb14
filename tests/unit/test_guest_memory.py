"""Which way the working-set curve of a lab's guest is read, where its memory may not be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from limosa.errors import LimosaError
from limosa.events import MigrationProgressed, to_json
from limosa.lab import copies, guest_memory
from limosa.lab.guest import LabGuest
from limosa.prediction import memory_look
from limosa.prediction.memory_look import NotRead
from limosa.qemu import launches
from limosa.qemu.launches import Running
from tests.local_host import LocalHost

MB = 1_000_000
MEMORY = 160 * MB


@pytest.fixture
def moving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabGuest:
    """A guest that another command moves, with its diary; nobody may read its memory."""

    async def answer(found: Any) -> Any:
        return found

    monkeypatch.setattr(copies, "host_of", lambda _: answer("host1"))
    monkeypatch.setattr(launches, "look", lambda *_: answer([Running("", 1, 1)]))
    monkeypatch.setattr(memory_look, "read", lambda *_: answer(NotRead("it may not be read")))
    directory = SimpleNamespace(diary=lambda _: tmp_path / "diary")
    record = SimpleNamespace(ram_bytes=MEMORY, accel="tcg")
    return cast(
        "LabGuest",
        SimpleNamespace(
            name="guest1", busy=True, unfinished=lambda: "an entry", known_record=lambda: record, on_record=list,
            hosts=SimpleNamespace(host=lambda _: LocalHost(), directory=directory),
        ),
    )  # fmt: skip


def look(at_s: float, iteration: int, remaining: int, sent: int) -> bytes:
    progressed = MigrationProgressed(
        guest="guest1", status="active", elapsed_ms=at_s * 1000, iteration=iteration, remaining_bytes=remaining,
        transferred_bytes=sent,
    )  # fmt: skip
    return to_json(progressed) + b"\n"


async def test_during_a_move_its_passes_tell(moving: LabGuest, tmp_path: Path) -> None:
    seen = [(0, 1, 100 * MB, 0), (9.9, 1, MB, 99 * MB), (10, 2, 20 * MB, 100 * MB), (10.1, 2, 19 * MB, 101 * MB)]
    (tmp_path / "diary").write_bytes(b"".join(look(*each) for each in seen) + b"not whole")
    found = await guest_memory.working_set(moving)
    assert (found.how, found.why, found.memory_bytes) == ("passes", "it may not be read", MEMORY)
    [point] = found.points
    assert point.t_s == pytest.approx(10) and point.median_bytes == pytest.approx(20 * MB)


async def test_before_a_pass_has_ended_nothing_is_known(moving: LabGuest, tmp_path: Path) -> None:
    (tmp_path / "diary").write_bytes(look(0, 1, 100 * MB, 0))
    with pytest.raises(LimosaError, match="not known yet: it may not be read"):
        await guest_memory.working_set(moving)
