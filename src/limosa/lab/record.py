"""What is kept of a lab on disk: the resolved spec, which processes are its hosts, what its guests were started with.

::

    STATE/labs/NAME/
      spec.json        the resolved lab
      record.json      Record
      place            where the fabric was made, see ``place``
      lock             held by the command that is changing the lab
      keys/            SSH keys made for this lab
      storage/NAME/    disks of a storage without a path of its own
      log/             serial logs, QEMU's and the keepers' messages
      guests/GUEST/    locks, record.json (GuestRecord) while it runs, migration journal, placed.json
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limosa import durable, locks, paths, spec, untrusted
from limosa.errors import BusyError, SpecError, StateError
from limosa.hosts.kind import BEFORE
from limosa.spec import resolved

if TYPE_CHECKING:
    from limosa.qemu.launches import Running

_GIVEN_UP = "given-up.json"
MEASURED = "measured.lock"
"""Of a guest: held by who measures it, who may start, stop and move it meanwhile."""
FORMAT = 2
"""Of the lab's record. In the first the kinds of hosts had no parts of their own."""
_WITHOUT_PARTS = 1
_GONE = ".gone"
"""How the name of a directory ends that is being deleted."""


class OwnDisk(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest whose disk boots by itself was started with besides. Paths are as the hosts see them."""

    format: str
    """The disk's: raw or qcow2."""
    base: str = ""
    """What the disk is an overlay over."""
    base_format: str = "raw"
    seed: str = ""
    firmware_code: str = ""
    firmware_vars: str = ""
    user: str = ""
    """Who logs in by SSH; empty: nobody."""
    own_keys: bool = False
    """Whether its SSH keys are its own, in files with its name, and not the lab's."""


class Launched(msgspec.Struct, frozen=True):
    """A copy of a guest that may exist: on record before its QEMU is launched, struck out when it was seen gone."""

    host: str
    launch: str
    """The id in its command line; empty where it is not known, and any process of the guest there may be it."""
    started: int = 0
    """Its start time in clock ticks after the host's boot; 0 as long as it is not known."""

    def is_it(self, running: Running) -> bool:
        """Whether a process that was seen on ``host`` is this copy, or has to be taken for it."""
        return self.launch in {"", running.launch} and self.started in {0, running.started}

    def is_surely(self, host: str, running: Running) -> bool:
        """Whether a process that was seen on *host* is this copy, by the id of its launch: only such a one is ended."""
        return self.host == host and self.launch != "" and self.is_it(running)


class GuestRecord(msgspec.Struct, kw_only=True):
    """What a guest was started with; a migration gives the target the same."""

    host: str
    """Where it was last known to run."""
    copies: tuple[Launched, ...] = ()
    """Every copy that was not seen gone: one, and during a move two."""
    accel: str
    accel_reason: str
    machine: str
    cpu: str
    ram_bytes: int | None = None
    """What QEMU got for memory; None: not written down, as it was before sizes could differ from launch to launch."""
    kernel: str = ""
    initrd: str = ""
    append: str = ""
    disk: str = ""
    image: dict[str, object] = {}
    """The image's provenance."""
    own_disk: OwnDisk | None = None


class _OldRecord(msgspec.Struct):
    """As much of a record without parts as tells whether anything is up that has a place in one now."""

    client_pid: int = 0
    hosts: dict[str, int] = {}


class Record(msgspec.Struct, kw_only=True):
    """What is known of a lab that is up. Of its hosts each kind keeps what only it understands."""

    format: int = FORMAT
    ephemeral: bool = False
    kinds: dict[str, msgspec.Raw] = {}
    """By the name of a kind of host: its own part, which is there as long as something of that kind may be."""
    cut: list[str] = []
    """Hosts whose links were cut on purpose."""
    off: list[str] = []
    """Hosts that were powered off on purpose."""
    up: bool = False
    """A lab without namespaces has no process by which it is seen to be up."""
    since_s: float | None = None
    """When a lab without namespaces was brought up, in seconds since the epoch: no process here tells."""
    claimed: list[str] | None = None
    """Hosts elsewhere on which something of the lab may be: written before it is made there, struck when it was seen
    gone. None: not known, so it may be on any."""
    addresses: dict[str, dict[str, str]] = {}
    """Of hosts elsewhere and of a client that is this machine: the address found in each network."""

    @property
    def is_empty(self) -> bool:
        """Whether it says that nothing of the lab is anywhere: it was taken down, or nothing of it could be made."""
        return not (self.up or self.kinds) and self.claimed == []


class LabDirectory(msgspec.Struct, frozen=True):
    """The state directory of one lab."""

    path: Path

    @classmethod
    def named(cls, name: str) -> LabDirectory:
        """The directory of the lab called *name*, whether it exists or not. Raises SpecError for no name of a lab."""
        return cls(paths.labs() / untrusted.check_name(name, "lab"))

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.path.name

    @property
    def mark(self) -> str:
        """What the lab's processes bear in their command lines: the one real path, however it was reached."""
        return os.path.realpath(self.path)

    @property
    def log(self) -> Path:
        """Where logs are."""
        return self.path / "log"

    @property
    def keys(self) -> Path:
        """Where the lab's SSH keys are."""
        return self.path / "keys"

    def guest(self, name: str) -> Path:
        """A guest's own folder. Raises SpecError for no name of a guest."""
        return self.path / "guests" / untrusted.check_name(name, "guest")

    def journal(self, guest: str) -> Path:
        """A guest's migration journal."""
        return self.guest(guest) / "migration.jsonl"

    def diary(self, guest: str) -> Path:
        """What is seen of a guest's migration while a command makes it."""
        return self.guest(guest) / "migration-diary.jsonl"

    def prediction(self, guest: str) -> Path:
        """What was said of the guest's next move."""
        return self.guest(guest) / "prediction.json"

    def switch_wish(self, guest: str) -> Path:
        """There while somebody wishes that the guest's migration becomes post-copy."""
        return self.guest(guest) / "switch"

    def storage(self, storage: resolved.Storage) -> Path:
        """The directory of this machine behind a storage."""
        return Path(storage.path) if storage.path else self.path / "storage" / storage.name

    def create(self, lab: resolved.Lab) -> None:
        """Make the folders and write the spec. Raises MachineError when the disk does not take it."""
        try:
            for folder in (self.path, self.log, self.keys, *(self.guest(name) for name in lab.guests)):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for storage in lab.storage.values():
                if storage.kind == "directory" and not storage.path:
                    self.storage(storage).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise paths.cannot_write(error, self.path) from error
        write(self.path / "spec.json", spec.encode(lab))

    def spec(self) -> resolved.Lab:
        """The lab as it was last brought up. Raises StateError when it never was."""
        try:
            return spec.decode((self.path / "spec.json").read_bytes())
        except FileNotFoundError as error:
            raise StateError(f"there is no lab called {self.name}", hint=_known_labs()) from error
        except PermissionError as error:
            raise paths.cannot_read(error, self.path / "spec.json") from error
        except (SpecError, OSError) as error:
            raise self._damaged("spec.json", error) from error

    def is_lab(self) -> bool:
        """Whether anything in it speaks of a lab. Else a killed command left it: empty, or with a lock alone."""
        return any((self.path / name).exists() for name in ("spec.json", "record.json", "place"))

    def described(self) -> bool:
        """Whether the lab was ever brought up and not purged since: it may be up although no record says so."""
        return (self.path / "spec.json").exists()

    def readable_spec(self) -> bool:
        """Whether the lab's spec can be read."""
        try:
            self.spec()
        except StateError:
            return False
        return True

    def _damaged(self, file: str, error: Exception) -> StateError:
        why = error.strerror if isinstance(error, OSError) else error
        return StateError(
            f"{self.path / file} is damaged: {why}", hint=f"limosa down --lab {self.name} ends and deletes the lab"
        )

    def record(self) -> Record | None:
        """What is recorded; None for a lab that is down. Raises StateError when it is damaged, MachineError."""
        try:
            data = (self.path / "record.json").read_bytes()
            found = untrusted.decode(data, type=Record)
            if found.format == _WITHOUT_PARTS:
                found.format, old = FORMAT, untrusted.decode(data, type=_OldRecord)
                found.kinds = {BEFORE: msgspec.Raw(data)} if old.client_pid or old.hosts else {}
            return found
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise paths.cannot_read(error, self.path / "record.json") from error
        except (msgspec.DecodeError, OSError) as error:
            raise self._damaged("record.json", error) from error

    def save(self, record: Record) -> None:
        """Write the record, whole or not at all."""
        write(self.path / "record.json", msgspec.json.encode(record))

    def guest_record(self, guest: str) -> GuestRecord | None:
        """What *guest* was started with; None for one that is stopped. Each guest has a file of its own, under its
        own lock, so that two guests can be started or moved at once."""
        try:
            found = untrusted.decode((self.guest(guest) / "record.json").read_bytes(), type=GuestRecord)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            raise StateError(
                f"{self.guest(guest) / 'record.json'} is damaged: {error}",
                hint=f"limosa stop {guest} --force, then limosa start {guest}",
            ) from error
        found.copies = found.copies or (Launched(found.host, ""),)
        return found

    def give_up_guest(self, guest: str) -> None:
        """By a person's word no copy of the guest exists any more; what it was started with is kept, as one may."""
        kept = self.guest(guest) / "record.json"
        write(kept.with_name(_GIVEN_UP), kept.read_bytes())
        self.forget_guest(guest)

    def given_up(self, guest: str) -> GuestRecord | None:
        """What was kept of a guest that was given up; None for nothing, or nothing that can be read."""
        try:
            return untrusted.decode((self.guest(guest) / _GIVEN_UP).read_bytes(), type=GuestRecord)
        except (OSError, msgspec.MsgspecError):
            return None

    def given_up_copies(self, guest: str) -> tuple[Launched, ...] | None:
        """The copies of *guest* that a person gave up; None where they were written down and cannot be read."""
        if (record := self.given_up(guest)) is not None:
            return record.copies
        return None if (self.guest(guest) / _GIVEN_UP).exists() else ()

    def known_copies(self, guest: str) -> tuple[Launched, ...]:
        """For whoever ends them: the copies of *guest* that are on record by name. Of a record that cannot be read none
        is known, so none is ended; where one *may* be is another question (``copies.on_record``)."""
        with contextlib.suppress(StateError):
            if (record := self.guest_record(guest)) is not None:
                return record.copies
        return ()

    def save_guest(self, guest: str, record: GuestRecord) -> None:
        """Write what *guest* was started with and where copies of it may be, on the disk when this returns."""
        write(self.guest(guest) / "record.json", msgspec.json.encode(record))

    def save_placed(self, guest: str, paths: list[str]) -> None:
        """Write which files, by the paths of hosts elsewhere, are put on a storage anew whenever *guest* starts."""
        write(self.guest(guest) / "placed.json", msgspec.json.encode(paths))

    def placed(self, guest: str) -> list[str]:
        """Those files; none is known where nothing was written, or nothing that can be read."""
        try:
            return untrusted.decode((self.guest(guest) / "placed.json").read_bytes(), type=list[str])
        except (OSError, msgspec.MsgspecError):
            return []

    def forget_guest(self, guest: str) -> None:
        """No copy of the guest exists any more."""
        durable.remove(self.guest(guest) / "record.json")

    def remove(self) -> None:
        """Delete the directory and everything in it: at once for whoever looks for the lab, then file by file."""
        import shutil

        gone = self.path.with_name(f".{self.name}.{os.getpid()}{_GONE}")
        try:
            self.path.rename(gone)
        except OSError:
            gone = self.path
        shutil.rmtree(gone, ignore_errors=True)

    def busy(self, guest: str, file: str = "lock") -> bool:
        """Whether a command holds the lock *file* of *guest* at this moment."""
        try:
            return locks.is_held(self.guest(guest) / file)
        except OSError:
            return False

    @contextlib.contextmanager
    def locked(self, what: str = "", guest: str = "", file: str = "lock") -> Iterator[None]:
        """Hold the lab's lock *file*, or that of one guest. Raises BusyError when another command holds it.

        Where the lab's was held and nothing came of it, it goes, and so does the directory.
        """
        path = (self.guest(guest) if guest else self.path) / file
        descriptor = _opened(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another command"
                thing = f"guest {guest}" if guest else f"lab {self.name}"
                raise BusyError(f"{thing} is busy: {holder} is at work on it", hint="wait for it to end") from error
            if not _is_still(descriptor, path):  # `down` deleted the lab in between: this lock locks nothing
                raise BusyError(f"lab {self.name} was just taken down", hint="try again")
            with contextlib.suppress(OSError):  # a full disk spoils only the text of somebody else's error
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{what or 'a command'} (pid {os.getpid()})".encode(), 0)
            try:
                yield
            finally:
                if not guest and not self.is_lab() and _is_still(descriptor, path):
                    with contextlib.suppress(OSError):
                        path.unlink()
                        self.path.rmdir()
        finally:
            os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise paths.cannot_write(error, path.parent) from error


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def write(path: Path, data: bytes) -> None:
    """Replace *path* by *data*, durably. Raises MachineError when the disk does not take it."""
    try:
        durable.replace(path, data)
    except OSError as error:
        raise paths.cannot_write(error, path.parent) from error


def existing() -> list[LabDirectory]:
    """Every lab that has a directory here. Raises MachineError."""
    return [directory for directory in directories() if directory.is_lab()]


def directories() -> list[LabDirectory]:
    """Every directory of a lab, also those in which nothing speaks of one. Raises MachineError."""
    return [LabDirectory(folder) for folder in _folders() if not folder.name.startswith(".")]


def remove_remains() -> None:
    """Delete directories whose deletion was interrupted."""
    import shutil

    for folder in _folders():
        if folder.name.startswith(".") and folder.name.endswith(_GONE):
            shutil.rmtree(folder, ignore_errors=True)


def _folders() -> list[Path]:
    try:
        return [folder for folder in sorted(paths.labs().iterdir()) if folder.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise paths.cannot_read(error, paths.labs()) from error


def _known_labs() -> str:
    names = ", ".join(directory.name for directory in existing())
    return f"labs here: {names}" if names else "limosa up makes one from a lab file"
