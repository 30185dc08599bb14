"""The guest agent as a program, compiled here. Its digest covers all that decides what comes out: a cache key."""

from __future__ import annotations

import hashlib
from pathlib import Path

from limosa import paths, process, temporary
from limosa.errors import CommandError, MachineError
from limosa.events import CommandRan, Events

PROGRAM = "limosa-agent"
"""The name of the program in a guest."""

SOURCE = Path(__file__).parent / "source"
FLAGS = ("-O2", "-static", "-Wall", "-Wextra", "-Werror")
LIBRARIES = ("-pthread", "-lm")
COMPILE_LIMIT_S = 120.0
_HINT = "apt install gcc libc6-dev"
_LIBRARY_MISSING = (".h: No such file or directory", "cannot find -l")
"""What gcc says when the C library's headers or its static archive are not installed."""


def sources() -> tuple[Path, ...]:
    """The C files, in the order in which they are compiled."""
    return tuple(sorted(SOURCE.glob("*.c")))


def source_digest() -> str:
    """SHA-256 over every source and header, by name, and the flags; 64 hexadecimal digits."""
    digest = hashlib.sha256(repr((FLAGS, LIBRARIES)).encode())
    for path in sorted(SOURCE.glob("*.[ch]")):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def kept_file() -> Path:
    """Where the agent of the present sources is kept, compiled or not."""
    return paths.cache() / "agent" / f"limosa-agent-{source_digest()[:16]}"


async def ensure(events: Events) -> Path:
    """The agent, compiled once for each state of its sources. Raises as ``build`` does."""
    path = kept_file()
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise paths.cannot_write(error, path.parent) from error
        with events.stage("compile the guest agent"):
            await build(path, events)
    return path


async def build(target: Path, events: Events) -> None:
    """Compile the agent to the file *target*, which appears only when it is whole.

    Raises MachineError when gcc or the C library's static part is missing, CommandError when gcc refuses.
    """
    with temporary.folder("agent", target.parent) as folder:
        made = folder / PROGRAM
        argv = ["gcc", *FLAGS, f'-DLIMOSA_DIGEST="{source_digest()}"', "-o", str(made)]
        argv += [*map(str, sources()), *LIBRARIES]
        done = await _compile(argv)
        events.emit(CommandRan(host="", argv=done.argv, returncode=done.returncode, duration_s=done.duration_s))
        made.replace(target)


async def _compile(argv: list[str]) -> process.Completed:
    try:
        return await process.run(argv, timeout_s=COMPILE_LIMIT_S)
    except MachineError as error:
        raise MachineError("the guest agent cannot be built: gcc is not installed", hint=_HINT) from error
    except CommandError as error:
        if any(sign in error.stderr for sign in _LIBRARY_MISSING):
            raise MachineError(
                "the guest agent cannot be built: the C library's headers or its static archive are missing",
                hint=_HINT,
            ) from error
        raise
