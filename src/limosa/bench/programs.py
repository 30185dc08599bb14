"""The guest image's own programs on this machine: the same files, with the same libraries and the same loader.

A comparison of host and guest is worth nothing when two builds of a program or two C libraries are compared. So the
files are read out of the image's disk, kept in the cache, and run with the image's loader.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from limosa import paths, process, temporary
from limosa.errors import CommandError, MachineError
from limosa.guest.built_images import Image

LOADER = "/usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the image. ``files``: SHA-256 of program, loader and libraries, by their paths in the image."""

    name: str
    root: Path
    """The folder that stands for the image's root."""
    path: str
    files: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs it on this machine, with nothing of this machine's own.

        From *root*, as a path of libraries is divided by colons, which a folder's name may have.
        """
        runs = ["env", f"--chdir={self.root}", f".{LOADER}", "--library-path", LIBRARIES[1:]]
        return [*runs, f".{self.path}", *arguments]


async def program(image: Image, name: str) -> Program:
    """The program *name* of the image. Raises MachineError when the image has none, or has not got all of it."""
    root = await _unpacked(image)
    path = f"/usr/bin/{name}"
    if not (root / path[1:]).is_file():
        raise _lacks(image, name)
    found = Program(name, root, path, {})
    try:
        *loads, runs = found.command()
        listed = await process.run([*loads, "--list", runs], timeout_s=30)
    except CommandError as error:
        raise _lacks(image, f"all of {name}'s libraries: {error.message}") from error
    libraries = {word for word in listed.text.split() if word.startswith(LIBRARIES[1:])}
    files = [path, LOADER, *sorted(f"/{word}" for word in libraries)]
    return Program(name, root, path, {file: _sha256(root / file[1:]) for file in dict.fromkeys(files)})


async def _unpacked(image: Image) -> Path:
    """The image's programs and libraries as a folder of the cache, read out once."""
    final = paths.cache() / "programs" / image.directory.name
    if final.is_dir():
        return final
    with contextlib.ExitStack() as stack:
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            work = stack.enter_context(temporary.folder("programs", final.parent))
        except OSError as error:
            raise paths.cannot_write(error, final) from error
        for folder in ("/usr/bin", "/usr/lib64", LIBRARIES):
            target = (work / folder[1:]).parent
            target.mkdir(parents=True, exist_ok=True)
            # debugfs complains on standard error that an ordinary user may not change owners; the content is right.
            # It takes what follows a ? in the disk's path for options; a quote is doubled in its words.
            there, disk = '"' + str(target).replace('"', '""') + '"', image.disk
            argv = ["env", f"--chdir={disk.parent}", "debugfs", "-R", f"rdump {folder} {there}", disk.name]
            await process.run(argv, timeout_s=120)
        if not (work / LOADER[1:]).is_file():
            raise _lacks(image, "a loader")
        work.chmod(0o755)
        try:
            work.rename(final)
        except OSError:  # another command was faster
            if not final.is_dir():
                raise
    return final


def different(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """The files whose SHA-256 differ, or that only one side has."""
    return sorted(file for file in {*ours, *theirs} if ours.get(file) != theirs.get(file))


def parse_sums(text: str) -> dict[str, str]:
    """What ``sha256sum`` printed, by file."""
    return {words[1]: words[0] for line in text.splitlines() if len(words := line.split()) == 2}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lacks(image: Image, what: str) -> MachineError:
    return MachineError(
        f"the guest image {image.directory.name} lacks {what}", hint=f"remove {image.directory}; it will be built again"
    )
