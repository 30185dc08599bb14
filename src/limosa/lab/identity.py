"""Whose a lab is: a random id kept in the state home, which with the lab's name tells it from every other one.

Rule: never by a path or a machine's name, for those are alike on many machines. The id is made once, by the first lab
that is brought up, and stays: labs come and go, and their guests get the same MACs again. A state home that several
machines see (a home on NFS) has one, as it is one person's. The fabric's processes alone are marked by the path of the
lab's directory: they are this machine's own, and are ended by whoever commands that directory.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from limosa import durable, paths
from limosa.errors import LimosaError, StateError
from limosa.lab.record import LabDirectory
from limosa.spec import resolved
from limosa.spec.addresses import identified

_ID = re.compile(r"[0-9a-f]{16}")


def known(lab: resolved.Lab, directory: LabDirectory) -> resolved.Lab:
    """*lab* with the identity under which it was brought up, else with the state home's; without where there is none.

    A lab whose disks are kept keeps its identity with them, as a system on a disk may know its card by the MAC; one
    that an older version brought up goes on without. Makes nothing.
    """
    given = _given(directory)
    if given is None:
        with contextlib.suppress(LimosaError):  # whoever needs it is told
            given = _read()
    return identified(lab, given or "")


def settled(lab: resolved.Lab, directory: LabDirectory) -> resolved.Lab:
    """As ``known``, but where the state home has no id it gets one. Raises StateError, MachineError."""
    given = _given(directory)
    return identified(lab, _made() if given is None else given)


def _given(directory: LabDirectory) -> str | None:
    """The identity in what is recorded of the lab; None where nothing is, or nothing that can be read."""
    try:
        return directory.spec().identity
    except LimosaError:
        return None


def _file() -> Path:
    return paths.state() / "identity"


def _read() -> str | None:
    try:
        text = _file().read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise paths.cannot_read(error, _file()) from error
    if not _ID.fullmatch(text):
        raise StateError(
            f"{_file()} is damaged: it holds no id",
            hint=f"rm {_file()}: the next lab makes another, labs that are up keep theirs",
        )
    return text


def _made() -> str:
    """The state home's id, made if need be: of several commands that begin at once, all get that of the first."""
    while (found := _read()) is None:
        try:
            paths.state().mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.create(_file(), f"{os.urandom(8).hex()}\n".encode())
        except OSError as error:
            raise paths.cannot_write(error, paths.state()) from error
    return found
