"""Which guest of a lab an experiment moves, and between which hosts."""

from __future__ import annotations

from dataclasses import dataclass

from limosa import paths
from limosa.errors import SpecError
from limosa.spec import resolved


@dataclass(frozen=True, slots=True)
class Route:
    """The guest that moves, the host that it comes back to, and the one that it moves to."""

    guest: resolved.Guest
    back: str
    there: str


def route(lab: resolved.Lab, what: str) -> Route:
    """That of the first guest of *lab* that can be measured. Raises SpecError, for *what*, where there is none."""
    guest = next((each for each in lab.guests.values() if each.image_kind.has_agent), None)
    if guest is None or len(lab.hosts) < 2:
        raise SpecError(
            f"{what} needs two hosts and a guest with an operating system",
            file=lab.file,
            hint=f"see {paths.told(paths.example())}",
        )
    return Route(guest, guest.host, next(name for name in lab.hosts if name != guest.host))
