"""The image library: disks that boot by themselves, kept by name with where they came from.

::

    <cache>/images/NAME/        image.json (Entry), the disk, and what else the entry needs: a private key
    <cache>/images/.NAME.lock, .NAME.building/    as for every image that is being made; see ``image_folder``

An entry is never changed: whoever uses it works on a copy or an overlay. To make one::

    async with library.adding("alpine", events) as building:
        ...                                            # write building.directory / "disk.raw", the key, ...
        building.entry = Entry(disk="disk.raw", access=Access(key="user_key"), provenance={"how": "installed"})
    entry = library.find("alpine")
"""

from __future__ import annotations

import contextlib
import datetime
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from limosa import paths, untrusted
from limosa.errors import LimosaError, MachineError, SpecError, StateError
from limosa.events import Events
from limosa.guest.image_folder import discard, in_thread, locked, sha256, space_errors, sweep, sync
from limosa.spec import image_kinds
from limosa.temporary import held

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
_RECORD = "image.json"


class Access(msgspec.Struct, frozen=True):
    """How one logs in to a system that was started from the disk."""

    user: str = "root"
    """Empty: it runs no SSH server."""
    key: str = ""
    """The private key that lets *user* in: a file of the entry, mode 0600. Empty: the seed brings the lab's own key."""
    host_keys: tuple[str, ...] = ()
    """The system's public host keys, ``ssh-ed25519 AAAA…``. Without them the first answer is believed, and kept."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What ``image.json`` says. File names are relative to the entry's directory."""

    disk: str
    format: Literal["raw", "qcow2"] = "raw"
    firmware: Literal["bios", "uefi"] = "bios"
    seed: Literal["none", "nocloud"] = "none"
    """What tells the system its address and keys: nothing (it asks by DHCP), or cloud-init's NoCloud disk."""
    access: Access = Access()
    console: str = "ttyS0"
    """The serial console that it uses; empty: none."""
    kernel: str = ""
    """A kernel that QEMU starts directly; empty: the disk boots by itself."""
    initrd: str = ""
    append: str = ""
    provenance: dict[str, Any] = {}
    """where from, checksum, versions, how it was made; ``adding`` fills in name, made_at, made_s and sha256."""
    name: str = ""
    """Filled in by ``adding`` and ``find``."""
    directory: str = ""
    """Filled in by ``find``."""

    def path(self, file: str) -> Path:
        """A file of the entry."""
        return Path(self.directory) / file

    @property
    def disk_path(self) -> Path:
        """The disk, read-only for everybody."""
        return self.path(self.disk)


class Building:
    """An entry that is being made: fill ``directory``, then set ``entry``."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.entry: Entry | None = None


class ImageExists(StateError):
    """There is an entry of that name; ``entry`` is it."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(f"there is an image {entry.name} already", hint=f"limosa image remove {entry.name}")
        self.entry = entry


def directory() -> Path:
    """Where images are kept."""
    return paths.cache() / "images"


def check_name(name: str) -> None:
    """Raise SpecError unless *name* can be that of an entry."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise SpecError(
            f"{name!r} cannot be the name of an image",
            hint="a to z, 0 to 9, '.', '_' and '-', at most 63, and none of the last three in front",
        )
    if name in image_kinds.built() or is_built(name):
        raise SpecError(
            f"the image name {name!r} is taken by one that limosa builds itself", hint="choose another name"
        )


def is_built(name: str) -> bool:
    """Whether the directory *name* is one of an image that limosa builds itself."""
    return bool(built_as(name))


def built_as(directory: str) -> str:
    """The name of the image that limosa builds itself into *directory*, whose name ends with a digest; else empty."""
    kind, _, digest = directory.rpartition("-")
    return kind if kind in image_kinds.built() and re.fullmatch(r"[0-9a-f]{16}", digest) else ""


@contextlib.asynccontextmanager
async def adding(name: str, events: Events) -> AsyncIterator[Building]:
    """A directory to make the entry *name* in, whole or not at all; whoever makes the same one meanwhile waits.

    Raises SpecError for a name that cannot be, ImageExists when it is there (perhaps made by the one waited for),
    MachineError when there is no space. Set ``entry`` before the end; an exception inside leaves nothing.
    """
    check_name(name)
    images = directory()
    with space_errors(images):
        images.mkdir(parents=True, exist_ok=True)
    async with locked(images, name, events):
        if (there := find(name)) is not None:
            raise ImageExists(there)
        building = Building(name, images / f".{name}.building")
        with space_errors(images):
            sweep(images, name)
            building.directory.mkdir(mode=0o700)
        started = time.monotonic()
        try:
            yield building
            with space_errors(images):
                await in_thread(_commit, building, time.monotonic() - started)
        except BaseException:
            with contextlib.suppress(OSError):
                discard(building.directory)
            raise


def _commit(building: Building, made_s: float) -> None:
    entry = building.entry
    if entry is None:
        raise LimosaError(f"the image {building.name} was not finished", hint="this is a fault of limosa: report it")
    files = [name for name in (entry.disk, entry.kernel, entry.initrd, entry.access.key) if name]
    for name in files:
        file = building.directory / name
        if not file.is_file() or file.parent != building.directory:
            raise LimosaError(f"the image {building.name} lacks its file {name}", hint="report this")
        file.chmod(0o600 if name == entry.access.key else 0o444)
    provenance = {
        "name": building.name,
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "made_s": round(made_s, 2),
        "sha256": sha256(building.directory / entry.disk),
        **entry.provenance,
    }
    whole = msgspec.structs.replace(entry, name=building.name, provenance=provenance)
    (building.directory / _RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2))
    for name in [*files, _RECORD, ""]:
        sync(building.directory / name)
    building.directory.rename(directory() / building.name)
    sync(directory())


def find(name: str) -> Entry | None:
    """The entry *name*; None when there is none. Raises MachineError when it is not whole."""
    folder = directory() / name
    if not re.fullmatch(NAME_PATTERN, name) or is_built(name):
        return None
    try:
        entry = untrusted.decode((folder / _RECORD).read_bytes(), type=Entry)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise MachineError(f"the image {name} in {folder} cannot be used: {error}", hint=_remove(name)) from error
    for file in (entry.disk, entry.kernel, entry.initrd, entry.access.key):
        if file and not (folder / file).is_file():
            raise MachineError(f"the image {name} in {folder} lacks {file}", hint=_remove(name))
    return msgspec.structs.replace(entry, name=name, directory=str(folder))


def _remove(name: str) -> str:
    return f"limosa image remove {name}, then make it again"


def names() -> list[str]:
    """The names of all entries, whole or not."""
    try:
        found = sorted(folder.name for folder in directory().iterdir() if (folder / _RECORD).is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MachineError(f"{directory()} cannot be read: {error.strerror}", hint="is it your own?") from error
    return [name for name in found if re.fullmatch(NAME_PATTERN, name) and not is_built(name)]


def entries() -> list[Entry]:
    """Every whole entry, by name; those that are not whole are left out."""
    found = []
    for name in names():
        with contextlib.suppress(MachineError):
            if (entry := find(name)) is not None:
                found.append(entry)
    return found


def size_bytes(folder: Path) -> int:
    """What the files in *folder* take on the disk; holes count nothing."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def remove(name: str) -> int:
    """Delete the entry (or the built image's directory) *name*; return how many bytes it took.

    Raises StateError when there is none or it is being made. Whether a lab uses it is for the caller to ask.
    """
    folder = directory() / name
    if "/" in name or name.startswith(".") or not folder.is_dir():
        raise unknown(name)
    with held(directory() / f".{name}.lock") as ours:
        if not ours:
            raise StateError(f"the image {name} is being made", hint="wait for the command that makes it")
        taken_bytes = size_bytes(folder)
        try:
            discard(folder)
        except OSError as error:
            raise MachineError(f"{folder} cannot be removed: {error.strerror}", hint="is it your own?") from error
    return taken_bytes


def unknown(name: str) -> SpecError:
    """The error for a name that no image has, with the nearest that there are and how to make one."""
    import difflib

    near = difflib.get_close_matches(name, known := [*image_kinds.built(), *names()], 1)
    hint = f"did you mean {near[0]}? " if near else ""
    hint += f"there are {', '.join(known)}; limosa image install and limosa image build make more"
    return SpecError(f"there is no image {name!r}", hint=hint)
