"""What reaches the end of a command and is no error of ours: a sentence for a person, and the trace for a bug report.

An operating system's error says what is wrong with the machine, whoever met it. Everything else is a fault of limosa.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback

from limosa import paths
from limosa.cli.face import first_error
from limosa.cli.printable import UnprintedError
from limosa.errors import LimosaError, MachineError

TRACE = "LIMOSA_TRACE"
"""The variable with which the whole trace is printed, too."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FILES = {errno.EMFILE, errno.ENFILE}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


def as_error(error: BaseException) -> LimosaError:
    """*error* as one with a sentence, a hint and an exit code."""
    if os.environ.get(TRACE):
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, BaseExceptionGroup):
        known = first_error(error)
        return known if known is not None else as_error(_first(error))
    if isinstance(error, LimosaError):
        return error
    known = _of_the_machine(error) if isinstance(error, OSError) else None
    return known if known is not None else _fault(error)


def _first(group: BaseExceptionGroup) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _of_the_machine(error: OSError) -> LimosaError | None:
    """What the machine lacks; None for an error that says nothing to whoever did not ask for that call."""
    file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if isinstance(error, UnprintedError):
        if error.errno not in _FULL:
            return LimosaError(f"what is printed cannot be written: {error.strerror}", hint="write it elsewhere")
        return LimosaError("no space left for what is printed", hint="write it to another disk")
    if error.errno in _FULL:
        places = f"labs and runs are in {paths.state()}, images in {paths.cache()}"
        hint = f"make room, or set XDG_STATE_HOME and XDG_CACHE_HOME to another disk: {places}"
        return MachineError(f"no space left{f' for {file}' if file else ''}", hint=hint)
    if error.errno in _FILES:
        return too_few_files()
    if error.errno in _REFUSED and file:
        return MachineError(f"{file}: {error.strerror}", hint="see to its owner and its permissions")
    return None


def too_few_files() -> MachineError:
    """The error for a process that may not open more files."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MachineError(
        f"a command may have {most} files open here, and needs more",
        hint="permit 1024 or more: ulimit -Hn 1024 as root, /etc/security/limits.conf, or LimitNOFILE of a service",
    )


def _fault(error: BaseException) -> LimosaError:
    said = str(error).strip().splitlines()
    what = type(error).__name__ + (f": {said[0]}" if said else "")
    return LimosaError(f"this is a fault of limosa: {what}", hint=f"please report it, with the trace: {_kept(error)}")


def _kept(error: BaseException) -> str:
    """Where the trace is; where no file can be written, how to see it."""
    try:
        kept = paths.state() / "last-fault.txt"
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = "".join(traceback.format_exception(error))
        kept.touch(mode=0o600)
        kept.write_text(f"limosa {' '.join(sys.argv[1:])}\n\n{lines}", errors="backslashreplace")
    except (OSError, LimosaError):
        return f"{TRACE}=1 before the command prints it"
    return str(kept)
