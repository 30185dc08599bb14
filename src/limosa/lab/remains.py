"""What may be left of a lab where nobody could look, in words: it is never forgotten until it is seen gone."""

from __future__ import annotations

from collections.abc import Mapping

from limosa.errors import LimosaError, StateError
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.record import LabDirectory
from limosa.lab.removal import Removal


def refuse_to_forget(directory: LabDirectory) -> None:
    """Raise LimosaError where something of a lab whose spec cannot be read may be on other machines."""
    try:
        record = directory.record()
        claimed = record.claimed if record else []
    except StateError:
        claimed = None
    if claimed != []:
        where = f"on {', '.join(claimed)}" if claimed else "on other machines, if it had any"
        raise LimosaError(
            f"what lab {directory.name} ran on this machine was ended; what it has {where} is not known, as "
            f"{directory.path / 'spec.json'} is damaged",
            hint=f"limosa down FILE, with the lab's file, takes it away; where nothing is left: rm -r {directory.path}",
        )


def not_wholly_down(hosts: LabHosts, left: Mapping[str, LimosaError]) -> LimosaError:
    """The error of a ``down`` that could not reach the hosts *left*, for these reasons."""
    told = [f"{error.message}; there may remain {Removal(hosts).remains(name)}" for name, error in left.items()]
    first = next(iter(left.values()))
    options = " ".join(f"--forget {name}" for name in left)
    return StateError(
        f"lab {hosts.lab.name} is not wholly down: {'; '.join(told)}",
        hint=f"{first.hint or 'bring it back'}, then limosa down --lab {hosts.lab.name} takes the rest; "
        f"to give it up for good: limosa down --lab {hosts.lab.name} {options}",
    )
