"""Every error that a person may meet, divided by what that person can do about it.

::

    LimosaError                    exit 1   something failed; the sentence and the hint say what
    ├── SpecError                  exit 2   the lab file or an argument is wrong: change what was written
    ├── MachineError               exit 3   this machine (or a host) lacks something: install or permit it
    ├── StateError                 exit 4   not possible as things stand: another verb has to come first
    │   └── UnreachableError       exit 4   a host does not answer: nobody knows what runs there, or whether it runs
    ├── BusyError                  exit 5   another command holds this lab or guest: wait for it
    ├── MigrationError             exit 6   the migration did not complete; the guest is safe, and where is said
    ├── DecisionError              exit 7   a person must decide; nothing was changed
    ├── CommandError               exit 1   a process failed; carries one line that can be pasted into a terminal
    └── QmpError                   exit 1   QEMU refused a command or went away

Ctrl-C exits with 130, SIGTERM with 143, SIGHUP with 129. Only ``__main__`` turns an error into an exit code.
"""

from __future__ import annotations

TYPE_CHECKING = False  # help and a wrong word need nothing else that typing would be loaded for
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import ClassVar

LONGEST = 4000
"""Characters of a message: what is quoted in one may be a guest's console, or a file that is no lab file."""


def bounded(text: str) -> str:
    """*text* for a person, who reads no more than a screen."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text)} characters in all)"


class LimosaError(Exception):
    """The root: one clear sentence, and a hint that names the fix where there is one."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message, self.hint = bounded(message), bounded(hint)
        super().__init__(self.message)
        self.made: tuple[str, ...] = ()
        """What a verb of several steps has made all the same."""
        self.others: tuple[LimosaError, ...] = ()
        """What else went wrong in such a verb."""
        self.about = ""
        """What it is about, where a verb is at work on several things: "guest web"."""

    @property
    def sentence(self) -> str:
        """The message, with what it is about where it does not say so itself."""
        named = self.about.rpartition(" ")[2]
        return f"{self.about}: {self.message}" if named and named not in self.message else self.message


class SpecError(LimosaError):
    """What the user wrote is wrong: ``file`` and ``line`` (from 1) say where, when it came from a file."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "", file: str = "", line: int | None = None, key: str = "") -> None:
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(place + message, hint=hint)
        self.file, self.line, self.key = file, line, key
        self.problems: tuple[tuple[int | None, str, str, str], ...] = ()
        """Where one reading found faults in a file, each of them: line, key, what is wrong with it, the way out."""


class MachineError(LimosaError):
    """The machine lacks a program, a device, a permission, memory or disk space."""

    exit_code = 3


class StateError(LimosaError):
    """The request does not fit what is running now."""

    exit_code = 4


class UnreachableError(StateError):
    """A host that is a machine of its own does not answer. It may be off, or go on with all its guests: never take it
    for off where that decides who keeps a guest."""


class BusyError(LimosaError):
    """Another command is at work on the same lab or guest."""

    exit_code = 5


class MigrationError(LimosaError):
    """A migration did not complete. ``guest_host`` is the host where the guest runs now."""

    exit_code = 6

    def __init__(self, message: str, *, hint: str = "", guest_host: str = "") -> None:
        super().__init__(message, hint=hint)
        self.guest_host = guest_host


class DecisionError(LimosaError):
    """The state cannot be resolved without risk, so a person decides; the message says between what."""

    exit_code = 7


class CommandError(LimosaError):
    """A process exited with a status other than 0. ``replay`` can be pasted into a terminal."""

    def __init__(self, argv: Sequence[str], returncode: int, stderr: str, *, replay: str = "") -> None:
        import shlex

        self.argv, self.returncode, self.stderr = tuple(argv), returncode, stderr
        self.replay = replay or shlex.join(argv)
        last = stderr.strip().splitlines()[-1] if stderr.strip() else "it said nothing"
        super().__init__(
            f"{argv[0]} failed with exit code {returncode}: {last}", hint=f"to see it again: {self.replay}"
        )


class QmpError(LimosaError):
    """QEMU answered a command with an error (``error_class``), or closed the connection."""

    def __init__(self, message: str, *, hint: str = "", error_class: str = "") -> None:
        super().__init__(message, hint=hint)
        self.error_class = error_class
