"""All labs of a user, by what is on this machine alone: no host is logged in to, so the look is over at once.

What a machine elsewhere would say is for ``limosa status``. A lab that is damaged, or that runs in another place, is
listed as that, and hides none of the others.
"""

from __future__ import annotations

import contextlib
import datetime
from enum import StrEnum

import msgspec

from limosa.errors import LimosaError, StateError
from limosa.lab.record import LabDirectory, Record, directories
from limosa.lab.surroundings import traces
from limosa.spec import resolved


class LabState(StrEnum):
    """What is known of a lab. The text is what people read, and what JSON says."""

    UP = "up"
    DOWN = "down"
    DAMAGED = "damaged"
    """What is kept of it cannot be read, or is lost."""
    ELSEWHERE = "elsewhere"
    """It runs, or may run, on another machine or in a container, and can be commanded there alone."""


class KnownLab(msgspec.Struct, frozen=True, kw_only=True):
    """One lab. Of one that is damaged only what can be read is known."""

    name: str
    state: LabState
    directory: str
    file: str = ""
    """The lab file that it came from."""
    hosts: list[str] = []
    guests: list[str] = []
    started: list[str] = []
    """The guests that are on record as started: whether one ended by itself since, ``limosa status`` says."""
    since: str = ""
    """When it was brought up, or taken down (ISO 8601, UTC); empty where that is not known."""
    ephemeral: bool = False
    """Whether it ends with the command that made it."""
    left: list[str] = []
    """Hosts on which something may remain of a lab that is down."""
    why: str = ""
    """Of one that is damaged or elsewhere: in a sentence."""
    hint: str = ""


def known_labs() -> list[KnownLab]:
    """Every lab, by name. Raises MachineError where the state directory cannot be read."""
    return [_look(directory) for directory in directories() if directory.is_lab() or traces(directory).processes()]


def _look(directory: LabDirectory) -> KnownLab:
    lab, record, damage = _kept(directory)
    try:
        traces(directory).require_here()
        runs = bool(traces(directory).processes())
        state, why = (LabState.DAMAGED, damage) if damage else (LabState.DOWN, None)
    except StateError as error:
        runs, state, why = False, LabState.ELSEWHERE, error
    if state is LabState.DOWN and lab is not None and record is None and runs:
        state, why = LabState.DAMAGED, _lost(directory)
    if state is LabState.DOWN and record is not None and (runs or _up_without_fabric(lab, record)):
        state = LabState.UP
    return KnownLab(
        name=directory.name,
        state=state,
        directory=str(directory.path),
        file=lab.file if lab else "",
        hosts=list(lab.hosts) if lab else [],
        guests=list(lab.guests) if lab else [],
        started=[name for name in lab.guests if (directory.guest(name) / "record.json").exists()] if lab else [],
        since=_since(directory, record, state),
        ephemeral=record is not None and record.ephemeral,
        left=list(record.claimed or ()) if record and state is LabState.DOWN else [],
        why=why.message if why else "",
        hint=why.hint if why else "",
    )


def _kept(directory: LabDirectory) -> tuple[resolved.Lab | None, Record | None, LimosaError | None]:
    """What can be read of what is kept, and what is wrong with the rest."""
    lab, record, damage = None, None, None
    try:
        record = directory.record()
    except LimosaError as error:
        damage = error
    try:
        lab = directory.spec()
    except LimosaError as error:
        damage = error if directory.described() else _undescribed(directory)
    return lab, record, damage


def _undescribed(directory: LabDirectory) -> StateError:
    lost = f"{directory.path / 'spec.json'}, what it was made from, is lost"
    return StateError(lost, hint=f"limosa down --lab {directory.name} ends and deletes the lab")


def _lost(directory: LabDirectory) -> StateError:
    lost = f"{directory.path / 'record.json'} is lost, and something of the lab runs"
    return StateError(lost, hint=f"limosa up --lab {directory.name} makes it again from what runs")


def _up_without_fabric(lab: resolved.Lab | None, record: Record) -> bool:
    """A lab without namespaces has no process here by which it is seen to be up."""
    return lab is not None and not lab.has_fabric and record.up


def _since(directory: LabDirectory, record: Record | None, state: LabState) -> str:
    """Of one that is down, when that was put on record; of another, when what runs was made."""
    moment_s = record.since_s if record is not None else None
    if state is LabState.DOWN:
        with contextlib.suppress(OSError):
            moment_s = (directory.path / "record.json").stat().st_mtime
    elif (made_s := traces(directory).made_s()) is not None:
        moment_s = made_s
    if moment_s is None:
        return ""
    return datetime.datetime.fromtimestamp(moment_s, datetime.UTC).isoformat(timespec="seconds")
