"""Where things are kept: state (labs, disks, runs) and cache (images), by the XDG rules; where the examples and
documents are that come with limosa; and the error for a place that takes no file."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from limosa.errors import MachineError

_BROUGHT = Path(__file__).parent


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


def example(name: str = "two-hosts.yaml") -> Path:
    """A lab file that comes with limosa. In a clone ``src/limosa/examples`` leads to the one at the root."""
    return (_BROUGHT / "examples" / name).resolve()


def document(name: str) -> str:
    """A document that comes with limosa, as ``hosts.md``, by the path that a hint gives."""
    return told((_BROUGHT / "docs" / name).resolve())


def told(path: Path) -> str:
    """*path* as somebody would name it from here: what is below the current directory from there, else whole."""
    with contextlib.suppress(OSError, ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def cannot_write(error: OSError, path: Path) -> MachineError:
    """The error for a directory that takes no file."""
    variable = "XDG_CACHE_HOME" if path.is_relative_to(cache()) else "XDG_STATE_HOME"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(f"no space left in {path}", hint=f"make room, or set {variable} to another disk")
    if error.errno == errno.EISDIR:
        place = error.filename2 or error.filename or path
        return MachineError(f"{place} is a directory, where a file of limosa's should be", hint=f"remove {place}")
    return MachineError(
        f"{path} cannot be written: {error.strerror}", hint=f"set {variable} to a directory that can be"
    )


def cannot_read(error: OSError, path: Path) -> MachineError:
    """The error for a file that is there and cannot be read."""
    return MachineError(f"{path} cannot be read: {error.strerror}", hint="is XDG_STATE_HOME a directory of your own?")
