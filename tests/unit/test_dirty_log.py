"""What is remembered of a QEMU's soundness, and what a guest's memory is by that."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

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
