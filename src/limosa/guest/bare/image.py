"""Builds the bare guest, and the host program that shares its compute loop, with the machine's gcc and ld.

The image's folder is named by the digest of the sources and of the command lines; it is made beside its final
place and moved there in one step, so a folder of that name is always whole, whatever was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from limosa import untrusted
from limosa.deadline import Deadline
from limosa.errors import BusyError, CommandError, MachineError
from limosa.events import Events
from limosa.guest.image_folder import discard
from limosa.process import run
from limosa.spec.image_kinds import BARE
from limosa.temporary import held

SOURCES = Path(__file__).parent / "source"
UNITS = ("entry.S", "main.c", "settings.c", "serial.c", "write.c", "primes.c")
LOCK_PATIENCE_S = 60.0
HINT = "install a compiler: apt-get install gcc binutils libc6-dev"

COMPILE = (
    *("gcc", "-c", "-m64", "-march=x86-64", "-mtune=generic", "-O2", "-std=gnu11", "-Wall", "-Wextra"),
    *("-ffreestanding", "-nostdlib", "-fno-pic", "-fno-stack-protector", "-fcf-protection=none"),
    # The supervisor saves no vector registers and switches stacks without respect for a red zone.
    *("-mno-red-zone", "-mno-mmx", "-mno-sse", "-mno-sse2", "-fno-asynchronous-unwind-tables"),
    # There is no libc: a loop that copies or fills must not become a call of memcpy or memset.
    "-fno-tree-loop-distribute-patterns",
)
LINK = (
    *("ld", "-nostdlib", "-static", "-z", "max-page-size=4096", "-z", "noexecstack"),
    *("--no-warn-rwx-segments", "--build-id=none"),
)
LINK_HOST = ("gcc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-no-pie")


@dataclass(frozen=True, slots=True)
class BareImage:
    """The result. ``digest`` names the sources, ``primes_sha256`` the object that guest and host share."""

    kernel: Path
    """For ``-kernel``: an ELF file with a PVH entry note."""
    host_primes: Path
    """The host's program: ``host_primes SECONDS [LIMIT [REPORT]]``."""
    primes_object: Path
    digest: str
    primes_sha256: str
    kernel_sha256: str
    compiler: str
    """The first line of ``gcc --version`` at the time of the build."""


@dataclass(frozen=True, slots=True)
class _Manifest:
    compiler: str
    primes_sha256: str
    kernel_sha256: str


def source_digest() -> str:
    """SHA-256 over the sources, their names, and the command lines that turn them into the image."""
    digest = hashlib.sha256(repr((UNITS, COMPILE, LINK, LINK_HOST)).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def directory_name() -> str:
    """The image's folder in the image cache."""
    return f"{BARE.name}-{source_digest()[:16]}"


async def build(directory: Path, events: Events) -> BareImage:
    """The image in *directory* (normally ``paths.cache() / "images"``), built there if it is not there yet.

    Raises MachineError when compiler, linker or C library are missing or *directory* cannot be written, and
    BusyError when another build takes longer than a minute.
    """
    final = directory / directory_name()
    if not (final / "manifest.json").exists():
        try:
            async with _lock(directory):
                if not (final / "manifest.json").exists():
                    with events.stage("build the bare guest"):
                        await _build_beside(final)
        except OSError as error:
            raise MachineError(
                f"the bare guest cannot be stored in {directory}: {error.strerror}",
                hint="make room there, or set XDG_CACHE_HOME to a folder that can be written",
            ) from error
    manifest = untrusted.decode((final / "manifest.json").read_bytes(), type=_Manifest)
    return BareImage(
        kernel=final / "bare.elf",
        host_primes=final / "host_primes",
        primes_object=final / "primes.o",
        digest=source_digest(),
        primes_sha256=manifest.primes_sha256,
        kernel_sha256=manifest.kernel_sha256,
        compiler=manifest.compiler,
    )


@asynccontextmanager
async def _lock(directory: Path) -> AsyncIterator[None]:
    """Hold *directory* for one build of this guest; the kernel lets go when the holder dies."""
    directory.mkdir(parents=True, exist_ok=True)
    async for _ in Deadline.after(LOCK_PATIENCE_S).ticks(0.05):
        with held(directory / "bare.lock") as ours:
            if ours:
                yield
                return
    raise BusyError("another command is building the bare guest", hint="wait for it, then try again")


async def _build_beside(final: Path) -> None:
    """Build in a folder beside *final* and move it there. The lock is held: what was left there is dead."""
    beside = final.with_name("bare.partial")
    for left in (beside, final):
        if left.exists():
            discard(left)
    beside.mkdir()
    try:
        await _compile(beside)
        beside.rename(final)
    except BaseException:
        with contextlib.suppress(OSError):
            discard(beside)
        raise


async def _compile(directory: Path) -> None:
    objects = [f"{Path(unit).stem}.o" for unit in UNITS]
    compiler = (await _tool(("gcc", "--version"), directory)).splitlines()[0]
    for unit, output in zip(UNITS, objects, strict=True):
        await _tool((*COMPILE, str(SOURCES / unit), "-o", output), directory)
    await _tool((*LINK, "-T", str(SOURCES / "bare.ld"), "-o", "bare.elf", *objects), directory)
    await _tool((*LINK_HOST, str(SOURCES / "host_primes.c"), "primes.o", "-o", "host_primes"), directory)
    for output in objects:
        if output != "primes.o":
            (directory / output).unlink()
    manifest = _Manifest(compiler, _sha256(directory / "primes.o"), _sha256(directory / "bare.elf"))
    (directory / "manifest.json").write_bytes(msgspec.json.encode(manifest) + b"\n")


async def _tool(argv: tuple[str, ...], directory: Path) -> str:
    try:
        return (await run(argv, cwd=directory, timeout_s=60)).text
    except MachineError as error:
        raise MachineError(error.message, hint=HINT) from error
    except CommandError as error:
        raise MachineError(f"the bare guest cannot be built: {error.message}", hint=f"{error.hint}; {HINT}") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
