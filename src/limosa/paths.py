"""Where things are kept: state (labs, disks, runs) and cache (images), by the XDG rules; where the examples and
documents are that come with limosa; and the error for a place that takes no file."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from limosa.errors import LimosaError, MachineError, SpecError

_TRIED_BYTES = 1 << 16
"""An empty file can be had on a full disk, too."""

_BROUGHT = Path(__file__).parent


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    base = Path(value) if value.startswith("/") else home() / fallback
    if not is_text(base):
        raise MachineError(f"{base} is no name in UTF-8", hint=f"set {variable} to a directory whose name is")
    return base / "limosa"


def is_text(path: Path) -> bool:
    """Whether a path can be written down: records, QEMU and lab files have text alone. A name on disk is any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def home() -> Path:
    """The user's home. Raises MachineError when nobody says where that is, as for a user number of a container."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise MachineError(
            f"this user has no home: HOME is not set, and the system has no user with the number {os.getuid()}",
            hint="set HOME to a directory of your own, or XDG_STATE_HOME and XDG_CACHE_HOME",
        ) from error


def state() -> Path:
    """Labs, their disks and the runs: ``$XDG_STATE_HOME/limosa``."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def cache() -> Path:
    """Images and what can be made again: ``$XDG_CACHE_HOME/limosa``."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def labs() -> Path:
    """One folder a lab."""
    return state() / "labs"


def scores() -> Path:
    """How predictions of moves held, a line each."""
    return state() / "predictions.jsonl"


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
    """*path* as somebody would name it from here: by a short name from the root of a clone, else whole."""
    with contextlib.suppress(OSError):
        here = Path.cwd()
        if here in path.parents[:2]:
            return str(path.relative_to(here))
    return str(path)


def cannot_write(error: OSError, path: Path) -> MachineError:
    """The error for a directory that takes no file, or a file that takes no more."""
    known = {"XDG_CACHE_HOME": cache(), "XDG_STATE_HOME": state()}
    variable = next((name for name, ours in known.items() if path.is_relative_to(ours)), "")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        other = f"set {variable} to another disk" if variable else "name a place on another disk"
        return MachineError(f"no space left in {path}", hint=f"make room, or {other}")
    if error.errno == errno.EISDIR:
        place = error.filename2 or error.filename or path
        return MachineError(f"{place} is a directory, where a file of limosa's should be", hint=f"remove {place}")
    hint = f"set {variable} to a directory that can be" if variable else "name a place that can be"
    return MachineError(f"{path} cannot be written: {error.strerror or error}", hint=hint)


def require_writable_folder(folder: Path, option: str) -> None:
    """Ask of a *folder* that a person named by *option* before anything long begins; nothing of it is made yet.

    Raises SpecError where no file could be put there, MachineError where there is no room for one.
    """
    try:
        missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _try_file(folder)
        finally:
            for each in missing:
                with contextlib.suppress(OSError):  # it was not made, or somebody else has put something there
                    each.rmdir()
    except OSError as error:
        raise _refused(error, folder, option) from error


def require_writable_file(file: Path, option: str) -> None:
    """The same of a file, whose folder has to be there."""
    try:
        if file.exists():
            with file.open("ab"):
                pass
        else:
            _try_file(file.parent)
    except OSError as error:
        raise _refused(error, file, option) from error


def _try_file(folder: Path) -> None:
    import tempfile  # most verbs do not need it

    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_TRIED_BYTES))
        file.flush()


def _refused(error: OSError, place: Path, option: str) -> LimosaError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return cannot_write(error, place)
    why = "a file is in the way" if isinstance(error, FileExistsError) else error.strerror
    return SpecError(f"{option}: {place} cannot be written: {why}", hint=f"name another place by {option}")


def cannot_read(error: OSError, path: Path) -> MachineError:
    """The error for a file that is there and cannot be read."""
    return MachineError(f"{path} cannot be read: {error.strerror}", hint="is XDG_STATE_HOME a directory of your own?")
