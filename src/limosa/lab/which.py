"""Which lab is meant, by its file, by its name or, where neither is given, as the only one that is up."""

from __future__ import annotations

import os
from pathlib import Path

from limosa import paths, spec
from limosa.errors import LimosaError, SpecError, StateError
from limosa.lab import identity
from limosa.lab.record import LabDirectory, existing
from limosa.lab.surroundings import traces
from limosa.spec import resolved


def resolve(what: str | Path | resolved.Lab) -> tuple[resolved.Lab, LabDirectory]:
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
    lab = identity.known(lab, directory)
    _same_file(lab, directory)
    return lab, directory


def locate(what: str | Path) -> tuple[resolved.Lab | None, LabDirectory]:
    """The lab's directory; with the lab itself when *what* is its file. Raises SpecError or StateError."""
    text = str(what) or os.environ.get("LIMOSA_LAB", "")
    if not text:
        return _only()
    path = Path(text)
    if os.path.isfile(text) or path.suffix in {".yaml", ".yml"} or "/" in text:  # noqa: PTH113 (a name too long for a file is none)
        lab = spec.load(path)
        return lab, LabDirectory.named(lab.name)
    return None, LabDirectory.named(text)


def _same_file(lab: resolved.Lab, directory: LabDirectory) -> None:
    """A running lab keeps the spec it was made from. Raises StateError when *lab* is another."""
    if not may_run(directory):
        return
    if not directory.readable_spec():
        raise _lost(directory, lab.file)
    if spec.encode(directory.spec()) == spec.encode(lab):
        return
    raise StateError(
        f"lab {lab.name} is up, made from another description than {lab.file} is now",
        hint=f"limosa down --lab {lab.name}, then up again; or give the new one another name",
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
    found = [directory for directory in existing() if may_run(directory)]
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
