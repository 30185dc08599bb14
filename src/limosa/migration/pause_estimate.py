"""What QEMU has to be told so that "at most 20 MiB/s, a pause of at most 300 ms" is what happens. Pure.

QEMU plans the pause at the rate at which it sends while the guest runs, but lifts ``max-bandwidth`` once the guest is
stopped. So under a limit that is less than the link takes it waits for a pause much shorter than it may make, and a
guest that writes faster than that never moves. A QEMU that has ``avail-switchover-bandwidth`` can be told what the link
takes; to another one the same is said by a downtime limit that is longer by as much as the link is faster. Both take a
link whose rate is known: what it takes is never guessed. docs/decisions/0027 tells what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from limosa.qemu.features import Migrations
from limosa.spec.migration_options import OPTIONS, Value, shown
from limosa.spec.migration_options.option_table import MOST_DOWNTIME_MS

AVAILABLE, LIMIT, PAUSE = "avail-switchover-bandwidth", "max-bandwidth", "downtime-limit"

PAYLOAD = 1448 / 1514
"""What of a link's rate is left for the stream: 1448 bytes of each Ethernet frame of 1514 (TCP with time stamps)."""


def stream(rate_bits_per_s: int) -> int:
    """What a link of that rate takes of a stream, in bytes/s."""
    return int(rate_bits_per_s / 8 * PAYLOAD)


class Estimate(msgspec.Struct, frozen=True):
    """What is told in place of what was asked for, by the option's name, and why, a sentence each."""

    told: dict[str, Value] = {}
    remarks: tuple[str, ...] = ()


def stands_in(name: str, wanted: Mapping[str, Value], source: Migrations) -> bool:
    """Whether *name* is carried out by a longer downtime limit, as the source's QEMU does not have it."""
    limit = int(wanted.get(LIMIT, OPTIONS[LIMIT].unasked))
    return name == AVAILABLE and int(wanted[name]) > limit and not source.has(f"parameter {AVAILABLE}")


def of(wanted: Mapping[str, Value], source: Migrations, link_bytes_per_s: int | None) -> Estimate:
    """For the options *wanted* by name, and a link that is known to carry so much of the stream (None: not known)."""
    limit = int(wanted.get(LIMIT, OPTIONS[LIMIT].unasked))
    pause_ms = int(wanted.get(PAUSE, OPTIONS[PAUSE].unasked))
    said = int(wanted.get(AVAILABLE, 0))
    link = said or link_bytes_per_s
    if limit == OPTIONS[LIMIT].unasked or (link is not None and link <= limit):
        return Estimate()
    if link is None:
        return Estimate(remarks=(_not_known(limit, pause_ms),))
    if source.has(f"parameter {AVAILABLE}"):
        return Estimate({AVAILABLE: link}, () if said else (_taken(link),))
    longer_ms = min(MOST_DOWNTIME_MS, round(pause_ms * link / limit))
    return Estimate(
        {PAUSE: longer_ms},
        (
            f"the source's QEMU is told a {PAUSE} of {longer_ms} ms, for a pause of at most {pause_ms} ms: it plans "
            f"the pause at {shown(LIMIT, limit)}, and sends the rest at the {_rate(link)} of the link",
        ),
    )


def _not_known(limit: int, pause_ms: int) -> str:
    return (
        f"QEMU plans the pause at {shown(LIMIT, limit)}, though it sends the rest as fast as the link takes: it will "
        f"be shorter than {pause_ms} ms, and a guest that keeps writing may not move; say how fast the link is: "
        f"--set {AVAILABLE}=RATE"
    )


def _taken(link: int) -> str:
    return f"QEMU plans the pause at the {_rate(link)} that the link takes, not at the limit of its bandwidth"


def _rate(bytes_per_s: int) -> str:
    from limosa.units import format_bytes_per_s

    return format_bytes_per_s(bytes_per_s)
