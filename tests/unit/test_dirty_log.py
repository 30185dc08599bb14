"""What is remembered of a QEMU's soundness, and what a guest's memory is, and where it may go, by that."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from limosa.errors import MachineError
from limosa.qemu import dirty_log, ram
from limosa.qemu.dirty_log import Verdict
from tests.launches import FEATURES

EVEN = 512 << 20
ODD = EVEN + 8192
SOUND = Verdict(sound=True, reason="it came through", tried_at_s=1e12)
UNSOUND = Verdict(sound=False, reason="it was damaged", tried_at_s=1e12)
UNCLEAR = Verdict(sound=False, reason="it hardly wrote", clear=False, tried_at_s=1e12)


def test_a_size_is_safe_under_kvm_or_with_a_sound_qemu_or_where_it_is_odd() -> None:
    assert ram.ram_bytes(EVEN, "tcg") == ODD
    assert ram.ram_bytes(EVEN, "tcg", sound=True) == EVEN
    assert ram.ram_bytes(EVEN, "kvm") == EVEN
    assert ram.ram_bytes(ODD, "tcg") == ODD
    assert not ram.needs_sound_qemu(ODD, "tcg")


def test_a_verdict_holds_for_one_binary_on_one_machine(tmp_path: Path) -> None:
    here = replace(FEATURES, identity="/usr/bin/qemu 1 2 3", asked_on="machine 1")
    assert dirty_log.recall(here, tmp_path) is None
    dirty_log.remember(here, SOUND, tmp_path)
    assert dirty_log.recall(here, tmp_path) == SOUND
    assert dirty_log.recall(replace(here, accel="kvm"), tmp_path) == SOUND
    assert dirty_log.recall(replace(here, identity="/usr/bin/qemu 1 9 3"), tmp_path) is None
    assert dirty_log.recall(replace(here, asked_on="machine 2"), tmp_path) is None


def test_a_trial_that_showed_nothing_is_repeated_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for verdict, then in ((UNCLEAR, None), (UNSOUND, UNSOUND), (SOUND, SOUND)):
        dirty_log.remember(FEATURES, verdict, tmp_path)
        monkeypatch.setattr("time.time", lambda: 1e12 + 60)
        assert dirty_log.recall(FEATURES, tmp_path) == verdict
        monkeypatch.setattr("time.time", lambda: 1e12 + dirty_log.UNCLEAR_LASTS_S + 60)
        assert dirty_log.recall(FEATURES, tmp_path) == then
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("verdict", "why"),
    [(None, "was not tried"), (UNCLEAR, "was not tried"), (UNSOUND, "is not sound: it was damaged")],
)
def test_a_guest_of_an_exact_size_goes_to_no_qemu_that_is_not_known_to_be_sound(
    tmp_path: Path, verdict: Verdict | None, why: str
) -> None:
    if verdict is not None:
        dirty_log.remember(FEATURES, verdict, tmp_path)
    with pytest.raises(MachineError, match=why) as raised:
        dirty_log.check_target("guest1", "host2", FEATURES, EVEN, "tcg", tmp_path)
    assert "guest1" in raised.value.message and "host2" in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(("size", "accel"), [(EVEN, "kvm"), (ODD, "tcg"), (None, "tcg")])
def test_any_other_guest_goes_anywhere(tmp_path: Path, size: int | None, accel: str) -> None:
    """A record without a size is of before, when there were 8 KiB more."""
    dirty_log.remember(FEATURES, UNSOUND, tmp_path)
    dirty_log.check_target("guest1", "host2", FEATURES, size, accel, tmp_path)


def test_a_guest_of_an_exact_size_goes_to_a_sound_qemu(tmp_path: Path) -> None:
    dirty_log.remember(FEATURES, SOUND, tmp_path)
    dirty_log.check_target("guest1", "host2", FEATURES, EVEN, "tcg", tmp_path)
