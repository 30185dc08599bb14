"""Which lab is meant, by its file, by its name or, where neither is given, as the only one that is up."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from limosa import paths, spec
from limosa.errors import LimosaError, SpecError, StateError
from limosa.lab import identity
from limosa.lab.record import LabDirectory, directories
from limosa.lab.surroundings import traces
from limosa.spec import resolved


def resolve(what: str | Path | resolved.Lab | LabDirectory) -> tuple[resolved.Lab, LabDirectory]:
    """The lab itself with its directory; see ``Lab.open``. Raises SpecError or StateError."""
    if isinstance(what, resolved.Lab):
        directory = LabDirectory.named(what.name)
        return identity.known(what, directory), directory
    lab, directory = locate(what)
    if lab is None:
        if not directory.described() and may_run(directory):
            raise _lost(directory, f"--lab {directory.name}")
        return directory.spec(), directory
    traces(directory).require_here()
    return identity.known(_as_kept(lab, directory), directory), directory


def locate(what: str | Path | LabDirectory) -> tuple[resolved.Lab | None, LabDirectory]:
    """The lab's directory; with the lab itself when *what* is its file. Raises SpecError or StateError."""
    if isinstance(what, LabDirectory):
        return None, what
    text = str(what) or os.environ.get("LIMOSA_LAB", "")
    if not text:
        return _only()
    path = Path(text)
    if os.path.isfile(text) or path.suffix in {".yaml", ".yml"} or "/" in text:  # noqa: PTH113 (a name too long for a file is none)
        lab = spec.load(path)
        return lab, LabDirectory.named(lab.name)
    return None, LabDirectory.named(text)


def _as_kept(lab: resolved.Lab, directory: LabDirectory) -> resolved.Lab:
    """*lab*, named by the path under which what is kept of it was made. A running lab keeps the spec it was made from.

    Raises StateError where what is kept was made from another file, or from what this one said before.
    """
    up = may_run(directory)
    if up and not directory.readable_spec():
        raise _lost(directory, lab.file)
    if not directory.readable_spec():
        return lab
    kept = directory.spec()
    if _is_file(kept.file, lab.file):
        lab = msgspec.structs.replace(spec.load(kept.file), file=kept.file)  # relative paths in it begin there
    elif up or os.path.exists(kept.file):  # noqa: PTH110 (there may be none, and then its name is empty)
        raise _another_file(lab, kept, "up" if up else "kept with its disks")
    if up and spec.encode(kept) != spec.encode(identity.known(lab, directory)):
        raise StateError(
            f"lab {lab.name} is up, made from another description than {lab.file} is now",
            hint=f"--lab {lab.name} goes on with it as it was made; for the change to count: "
            f"limosa down --lab {lab.name}, then up again",
        )
    return lab


def _is_file(one: str, other: str) -> bool:
    """Whether both are one file: by whatever links and mounts they are named."""
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):
        return False


def _another_file(lab: resolved.Lab, kept: resolved.Lab, state: str) -> StateError:
    """Also for an identical copy: what is done with one of two labs must never happen to the other."""
    made = f"made from {kept.file}, not from" if kept.file else "made from another description than"
    return StateError(
        f"lab {lab.name} is {state}, {made} {lab.file}",
        hint=f"--lab {lab.name} is the one that there is; for another beside it, write a name of its own, such as "
        f"`name: {lab.name}-2`, into {lab.file}",
    )


def _lost(directory: LabDirectory, which: str) -> StateError:
    return StateError(
        f"lab {directory.name} is up, and {directory.path / 'spec.json'}, what it was made from, is lost or damaged",
        hint=f"limosa down {which} ends and deletes the lab",
    )


def _only() -> tuple[resolved.Lab | None, LabDirectory]:
    """The lab when none is named: ``limosa.yaml`` here, else the only one that is up."""
    here = Path("limosa.yaml")
    if here.is_file():
        return locate(here)
    found = [directory for directory in directories() if may_run(directory)]
    if len(found) == 1:
        return None, found[0]
    if not found:
        raise StateError("no lab is up", hint=f"limosa up FILE makes one; try {paths.told(paths.example())}")
    names = ", ".join(directory.name for directory in found)
    raise SpecError(f"several labs are up: {names}", hint="say which with --lab NAME")


def may_run(directory: LabDirectory) -> bool:
    """Whether something says that the lab is up: its record or, where that is lost, its place or what runs here."""
    return _recorded(directory) or traces(directory).any()


def _recorded(directory: LabDirectory) -> bool:
    """Whether the record says so; one that cannot be read may."""
    try:
        record = directory.record()
    except LimosaError:
        return True
    return record is not None and not record.is_empty
