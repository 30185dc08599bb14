"""What the kinds of hosts are told of a lab, from its directory on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import msgspec

from limosa import process
from limosa.errors import LimosaError
from limosa.events import Events
from limosa.hosts import catalogue
from limosa.hosts.kind import Surroundings, Traces
from limosa.lab.record import LabDirectory, Record
from limosa.spec import resolved


def of(lab: resolved.Lab, directory: LabDirectory, record: Record, events: Events, *, rootless: bool) -> Surroundings:
    """For the hosts of *lab*; *rootless*: whether namespaces that are made take a user namespace."""
    shown = {s.name: directory.storage(s) for s in lab.storage.values() if s.kind == "directory"}
    return Surroundings(lab, directory.path, shown, record, events, rootless=rootless)


def traces(directory: LabDirectory) -> Traces:
    """What runs of a lab on this machine."""

    def recorded() -> Mapping[str, msgspec.Raw]:
        try:
            record = directory.record()
        except LimosaError:
            return {}
        return record.kinds if record else {}

    return catalogue.traces(directory.path, recorded)


def engage_undertaker(directory: LabDirectory) -> None:
    """Have a process of its own take the lab down when this one, which is making it, is killed."""
    words = ["--lab", directory.mark, "--maker", str(os.getpid())]
    process.detach([sys.executable, "-m", "limosa.lab.undertaker", *words], log=directory.log / "undertaker.log")
