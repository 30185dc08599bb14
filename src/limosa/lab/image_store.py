"""The images kept on this machine, with the labs that use them: what may be removed, and what may not."""

from __future__ import annotations

import contextlib
import datetime
import time
from pathlib import Path
from typing import Any

import msgspec

from limosa import temporary
from limosa.errors import LimosaError, MachineError, StateError
from limosa.guest import built_images, library, provision
from limosa.guest.image_folder import discard, sweep
from limosa.lab.record import existing
from limosa.spec import image_kinds
from limosa.temporary import held


class Kept(msgspec.Struct, frozen=True):
    """One image on this machine."""

    name: str
    kind: str
    """``library``: by name, installed, built or fetched; ``built``: made by limosa when a lab needs it; ``damaged``."""
    directory: str
    size_bytes: int
    made_at: str
    used_by: tuple[str, ...]
    """The labs with a guest of it."""
    format: str = ""
    firmware: str = ""
    entry: library.Entry | None = None
    provenance: dict[str, Any] = {}

    @property
    def age_s(self) -> float:
        """How long ago it was made."""
        with contextlib.suppress(ValueError):
            return time.time() - datetime.datetime.fromisoformat(self.made_at).timestamp()
        return 0.0

    def described(self) -> dict[str, Any]:
        """As JSON shows it: without what the machine alone needs."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        entry = found.pop("entry") or {}
        kept = ("disk", "seed", "access", "console", "kernel", "initrd", "append")
        return found | {key: entry[key] for key in kept if entry.get(key)}


def kept() -> list[Kept]:
    """Every image, by name; what killed commands left of others is swept. Raises MachineError when the cache cannot be
    read."""
    temporary.sweep()
    sweep(library.directory())
    try:
        folders = sorted(library.directory().iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MachineError(f"{library.directory()} cannot be read: {error.strerror}", hint="is it yours?") from error
    users = _users()
    return [_kept(folder, users) for folder in folders if _is_image(folder)]


def find(name: str) -> Kept:
    """One of them; of those that limosa builds itself, and are called so, the newest.

    Raises SpecError when there is none, with the nearest, StateError for one that limosa has not built yet.
    """
    return max(_called(name), key=lambda image: image.made_at)


def _called(name: str) -> list[Kept]:
    """Those of that name: every build of what limosa builds itself, whose directories have a digest behind it."""
    if found := [image for image in kept() if name in (image.name, library.built_as(image.name))]:
        return found
    if name in image_kinds.built():
        raise StateError(
            f"the image {name} is not built yet",
            hint=f"limosa builds it when a guest with `image: {name}` is first started",
        )
    raise library.unknown(name)


def _is_image(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".") and not folder.name.endswith(".partial")


def _kept(folder: Path, users: dict[str, tuple[str, ...]]) -> Kept:
    built = library.is_built(folder.name)
    made_at = datetime.datetime.fromtimestamp(folder.stat().st_mtime, datetime.UTC).isoformat(timespec="seconds")
    size_bytes = library.size_bytes(folder)
    used_by = users.get(folder.name, ())
    if built:
        with contextlib.suppress(LimosaError):
            image = built_images.find(folder)
            provenance = image.provenance if image else {}
            return Kept(folder.name, "built", str(folder), size_bytes, made_at, used_by, "raw", "", None, provenance)
    else:
        with contextlib.suppress(LimosaError):
            if (entry := library.find(folder.name)) is not None:
                made_at = str(entry.provenance.get("made_at", made_at))
                return Kept(
                    folder.name, "library", str(folder), size_bytes, made_at, used_by, entry.format, entry.firmware,
                    entry, entry.provenance,
                )  # fmt: skip
    return Kept(folder.name, "damaged", str(folder), size_bytes, made_at, used_by)


def _users() -> dict[str, tuple[str, ...]]:
    """The labs that use each image: those with a guest of that name, and with a guest started from that directory."""
    found: dict[str, set[str]] = {}
    for lab in existing():
        with contextlib.suppress(LimosaError):  # a damaged lab says so elsewhere
            for guest in lab.spec().guests.values():
                names = {guest.image}
                with contextlib.suppress(LimosaError):
                    if (record := lab.guest_record(guest.name)) is not None:
                        names.add(f"{record.image.get('name', '')}-{str(record.image.get('digest', ''))[:16]}")
                        names.add(str(record.image.get("entry", "")))
                for name in names:
                    found.setdefault(name, set()).add(lab.name)
    return {name: tuple(sorted(labs)) for name, labs in found.items()}


def remove(*names: str) -> dict[str, int]:
    """Delete images, all or none; return how many bytes each took.

    Raises StateError while a lab uses one of them, SpecError for a name that none has.
    """
    found = {image.name: image for name in names for image in _called(name)}
    for image in found.values():
        _require_unused(image)
    return {name: library.remove(name) for name in found}


def _require_unused(image: Kept) -> None:
    if used_by := image.used_by:
        labs = "labs" if len(used_by) > 1 else "lab"
        raise StateError(
            f"the image {image.name} is used by the {labs} {', '.join(used_by)}",
            hint=f"keep it; or, once the lab is not needed any more: limosa down --lab {used_by[0]}",
        )


def remove_unused() -> dict[str, int]:
    """Delete what limosa built itself and would build otherwise now, and what broken commands left; the sizes."""
    current = provision.current()
    gone = _remove_left()
    for image in kept():
        if library.is_built(image.name) and image.name not in current and not image.used_by:
            with contextlib.suppress(StateError):  # somebody is at work on it
                gone[image.name] = library.remove(image.name)
    return gone


def _remove_left() -> dict[str, int]:
    """What a killed command left half made, and downloads that nobody went on with."""
    gone: dict[str, int] = {}
    images = library.directory()
    for left in [path for end in ("building", "download", "download.part") for path in images.glob(f".*.{end}")]:
        with held(left.with_suffix(".lock")) as ours:
            if ours:
                gone[left.name] = library.size_bytes(left) if left.is_dir() else left.stat().st_blocks * 512
                discard(left) if left.is_dir() else left.unlink()
    return gone
