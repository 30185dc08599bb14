"""Where things are kept for somebody without a home, as a user number of a container is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from limosa import paths
from limosa.errors import MachineError


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)


def test_no_home_is_said(homeless: None) -> None:
    for place in (paths.state, paths.cache, paths.labs, paths.home):
        with pytest.raises(
            MachineError, match="HOME is not set, and the system has no user with the number 4000000000"
        ):
            place()


def test_places_that_are_named_need_none(homeless: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert (paths.state(), paths.cache()) == (tmp_path / "state/limosa", tmp_path / "cache/limosa")
