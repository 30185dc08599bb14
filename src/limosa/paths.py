"""Where things are kept: state (labs, disks, runs) and cache (images), by the XDG rules."""

from __future__ import annotations

import os
from pathlib import Path


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    base = Path(value) if value.startswith("/") else Path.home() / fallback
    return base / "limosa"


def state() -> Path:
    """Labs, their disks and the runs: ``$XDG_STATE_HOME/limosa``."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def cache() -> Path:
    """Images and what can be made again: ``$XDG_CACHE_HOME/limosa``."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def labs() -> Path:
    """One folder a lab."""
    return state() / "labs"


def runs() -> Path:
    """One folder a measured run."""
    return state() / "runs"
