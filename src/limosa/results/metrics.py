"""Every figure that is told of a move, one row each: what it is called, what it means, how it is derived, where shown.

From these rows are made the summary, its JSON, the CSV files, the tables of terminal and page, the page's headline and
plots, and the tables in ``docs/results-format.md`` and ``docs/measuring.md``. To add a figure: a row here, and a field
of the same name in ``format.MigrationSummary`` (of a clock: ``format.Clocks``). The order here is the order in which
figures are shown: what users notice first, then what the guest and QEMU say, then what it cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from limosa.results import clocks, exposure, rest
from limosa.results.cpu_speed import cpu_speed
from limosa.results.format import Clocks, MigrationSummary
from limosa.results.observation import Observation
from limosa.results.samples import Samples

Reading = float | int | None
"""None: not read, which is never 0."""
Quantity = Literal["pause", "span", "size", "rate", "count", "speed"]
"""What sort of figure: it decides how the figure is spelt."""
UNITS: Mapping[Quantity, str] = {
    "pause": "ms",
    "span": "ms",
    "size": "bytes",
    "rate": "bytes/s",
    "count": "",
    "speed": "events/s",
}
Source = Literal["the guest itself (reference)", "the hypervisor", "the network and its users"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Of a metric that tells how long the pause was."""

    number: str
    """1 to 4, from the hypervisor out to the user; R is the reference that the others are held against."""
    source: Source
    of_pauses: bool = True
    """Whether it reads calibration pauses too."""


class Metric:
    """One figure of a move. It is in the summary, its JSON, a CSV file, the terminal's table and the documents.

    - *key*: its name in files; ends in the unit. *label*: its name for people, everywhere.
    - *meaning*: for the documents and the page.
    - *derive*: the figure, from what was read of a move (or, of a clock, a calibration pause).
    - *clock*: of a clock; it is plotted, and has its rows in clocks.csv instead of a column in migrations.csv.
    - *at_rest*: the same figure while nothing moved; it is a field of ``format.Rest`` then.
    - *column*: whether it has a column in the page's table of migrations.
    - *headline*: what it is called among the page's key figures, where the worst move's is shown; empty: not there.
    - *noticed*: one of the ways to tell what users noticed; of these the headline has the first that was read.
    - *share_of*: the key of the figure beside which it is told as a share.
    """

    def __init__(
        self,
        *,
        key: str,
        label: str,
        quantity: Quantity,
        meaning: str,
        derive: Callable[[Observation], Reading],
        clock: Clock | None = None,
        at_rest: Callable[[Samples, Sequence[rest.Stretch]], float | None] | None = None,
        column: bool = False,
        headline: str = "",
        noticed: bool = False,
        share_of: str = "",
    ) -> None:
        self.key, self.label, self.quantity, self.meaning = key, label, quantity, meaning
        self.derive, self.at_rest, self.clock = derive, at_rest, clock
        self.column, self.headline, self.noticed, self.share_of = column, headline, noticed, share_of

    @property
    def title(self) -> str:
        """The label as a heading."""
        return f"{self.label[:1].upper()}{self.label[1:]}"

    @property
    def unit(self) -> str:
        """The unit as it is written in files; empty for a mere count."""
        return UNITS[self.quantity]

    def of(self, row: MigrationSummary | Clocks) -> Reading:
        """Its reading in a migration's row, or (a clock's) in the clocks of a pause."""
        holder = row.clocks if self.clock and isinstance(row, MigrationSummary) else row
        value: Reading = getattr(holder, self.key)
        return value


def _longest_wait_ms(observed: Observation) -> float | None:
    """From the move's beginning to a second after its end, by the TCP service, else by echoes, else by ticks.

    The usual wait that is taken off may differ from that of the blackout, and the longest is no shorter than a part.
    """
    move, samples = observed.migration, observed.samples
    if move is None:
        return None
    whole = clocks.Window.of_migration(move.started_ns, move.ended_ns)
    stall_ms = clocks.service_stall_ms(samples.service, whole)
    longest_ms = _first(stall_ms, clocks.echo_gap_ms(samples.echo, whole), clocks.tick_gap_ms(samples.ticks, whole))
    around_ms = clocks.service_stall_ms(samples.service, observed.window)
    return max((wait for wait in (longest_ms, around_ms) if wait is not None), default=None)


def _longest_wait_at_rest_ms(samples: Samples, resting: Sequence[rest.Stretch]) -> float | None:
    return _first(
        rest.longest_stall_ms(samples.service, resting),
        rest.longest_gap_ms(samples.echo.received_ns, resting),
        rest.longest_gap_ms(samples.ticks.received_ns, resting),
    )


def _first(*readings: float | None) -> float | None:
    return next((reading for reading in readings if reading is not None), None)


def _of_qemu(observed: Observation, key: str) -> float | None:
    """A figure of the last query-migrate; None where QEMU did not say it."""
    return _number(observed.migration.qemu, key) if observed.migration else None


def _of_ram(observed: Observation, key: str) -> int | None:
    found = _number(observed.migration.qemu.get("ram") or {}, key) if observed.migration else None
    return None if found is None else int(found)


def _number(container: Mapping[str, Any], key: str) -> float | None:
    value = container.get(key)
    return float(value) if isinstance(value, int | float) else None


def _stop_resume_ms(observed: Observation) -> float | None:
    move, window = observed.migration, observed.window
    if move is None:
        return (window.resume_ns - window.stop_ns) / clocks.MS
    ahead_ns = move.target_ahead_ns if move.stamped_by == "two machines" else 0
    if move.stop_ns is None or move.resume_ns is None or ahead_ns is None:
        return None
    return (move.resume_ns - move.stop_ns - ahead_ns) / clocks.MS


def _qemu_downtime_ms(observed: Observation) -> float | None:
    move = observed.migration
    return None if move is not None and exposure.is_post_copy(move.phases) else _of_qemu(observed, "downtime")


def _of_target(observed: Observation, key: str) -> float | None:
    return _number(observed.migration.qemu_target, key) if observed.migration else None


def _longest_vcpu_blocktime_ms(observed: Observation) -> float | None:
    told = observed.migration.qemu_target.get("postcopy-vcpu-blocktime") if observed.migration else None
    return max((float(one) for one in told if isinstance(one, int | float)), default=None) if told else None


def _duration_ms(observed: Observation) -> float | None:
    # No migration takes 0 ms: QEMU 7.2 was seen to say "completed" before it had its figures.
    return _of_qemu(observed, "total-time") or None


def _throughput_bytes_per_s(observed: Observation) -> float | None:
    duration_ms, transferred_bytes = _duration_ms(observed), _of_ram(observed, "transferred")
    return transferred_bytes / duration_ms * 1000 if duration_ms and transferred_bytes is not None else None


def _command_ms(observed: Observation) -> float | None:
    move = observed.migration
    return (move.ended_ns - move.started_ns) / 1e6 if move else None


def _speed_during(observed: Observation) -> float | None:
    move, samples = observed.migration, observed.samples
    return cpu_speed(samples.cpu, samples.ticks, move.started_ns, move.ended_ns) if move else None


def _speed_before(observed: Observation) -> float | None:
    move, samples = observed.migration, observed.samples
    return cpu_speed(samples.cpu, samples.ticks, observed.before_ns, move.started_ns) if move else None


METRICS: tuple[Metric, ...] = (
    Metric(
        key="longest_wait_ms",
        label="longest wait",
        quantity="pause",
        meaning="the longest that a client waited from the migration's beginning to a second after its end, not only"
        " around the blackout: by the TCP service, else by echoes, else by ticks",
        derive=_longest_wait_ms,
        at_rest=_longest_wait_at_rest_ms,
        column=True,
        headline="longest wait of a client while it moved",
    ),
    Metric(
        key="service_stall_ms",
        label="service stall",
        quantity="pause",
        meaning="the longest wait of a client that asks over TCP, retransmission included",
        derive=lambda observed: clocks.service_stall_ms(observed.samples.service, observed.window),
        clock=Clock("4", "the network and its users"),
        at_rest=lambda samples, resting: rest.longest_stall_ms(samples.service, resting),
        column=True,
        headline="longest wait of a TCP client",
        noticed=True,
    ),
    Metric(
        key="echo_gap_ms",
        label="echo gap",
        quantity="pause",
        meaning="the longest time without an answer to a client's UDP echo; kernel receive timestamps",
        derive=lambda observed: clocks.echo_gap_ms(observed.samples.echo, observed.window),
        clock=Clock("3b", "the network and its users"),
        at_rest=lambda samples, resting: rest.longest_gap_ms(samples.echo.received_ns, resting),
        headline="longest time without an echo",
        noticed=True,
    ),
    Metric(
        key="tick_gap_ms",
        label="tick gap",
        quantity="pause",
        meaning="the longest hole in datagrams that the guest sends by itself; kernel receive timestamps",
        derive=lambda observed: clocks.tick_gap_ms(observed.samples.ticks, observed.window),
        clock=Clock("3a", "the network and its users"),
        at_rest=lambda samples, resting: rest.longest_gap_ms(samples.ticks.received_ns, resting),
        headline="longest silence of the guest",
        noticed=True,
    ),
    Metric(
        key="guest_lost_ms",
        label="guest lost",
        quantity="pause",
        meaning="the guest's clock against ours, before and after: time that it missed. The reference for the pause",
        derive=lambda observed: (
            clocks.guest_lost_ms(observed.samples.ticks, observed.window) if observed.stopped else None
        ),
        clock=Clock("R", "the guest itself (reference)"),
        column=True,
        headline="lost by the guest's own clock",
    ),
    Metric(
        key="stop_resume_ms",
        label="STOP to RESUME",
        quantity="pause",
        meaning="STOP on the source to RESUME on the target, by the timestamps of the QMP events; between two"
        " machines corrected by how far their clocks are apart, None where that is not known",
        derive=_stop_resume_ms,
        clock=Clock("2", "the hypervisor"),
    ),
    Metric(
        key="qemu_downtime_ms",
        label="QEMU downtime",
        quantity="pause",
        meaning="what query-migrate reports. It leaves out part of the hand-over. None of a move that went over to"
        " post-copy: QEMU counts some ms then, where the guest stands still until the target has loaded its devices",
        derive=_qemu_downtime_ms,
        clock=Clock("1", "the hypervisor", of_pauses=False),
        column=True,
        headline="downtime that QEMU reports",
    ),
    Metric(
        key="duration_ms",
        label="QEMU total",
        quantity="span",
        meaning="QEMU's own total-time of the migration",
        derive=_duration_ms,
        column=True,
    ),
    Metric(
        key="command_ms",
        label="whole command",
        quantity="span",
        meaning="the whole verb, until the source is gone and the journal closed",
        derive=_command_ms,
        column=True,
        headline="whole command",
    ),
    Metric(
        key="transferred_bytes",
        label="transferred",
        quantity="size",
        meaning="what QEMU sent of the guest's memory",
        derive=lambda observed: _of_ram(observed, "transferred"),
        column=True,
    ),
    Metric(
        key="throughput_bytes_per_s",
        label="throughput",
        quantity="rate",
        meaning="what was transferred, divided by QEMU's total",
        derive=_throughput_bytes_per_s,
        column=True,
    ),
    Metric(
        key="iterations",
        label="iterations",
        quantity="count",
        meaning="how many times QEMU went over the memory",
        derive=lambda observed: _of_ram(observed, "dirty-sync-count"),
        column=True,
    ),
    Metric(
        key="exposure_ms",
        label="exposure",
        quantity="span",
        meaning="for how long post-copy had the guest's memory on both hosts, so that the loss of either would have"
        " cost the guest: from before the source was told until it had sent everything",
        derive=lambda observed: exposure.exposure_ms(observed.migration.phases) if observed.migration else None,
    ),
    Metric(
        key="blocktime_ms",
        label="blocktime",
        quantity="pause",
        meaning="for how long all virtual CPUs at once waited for pages in post-copy, as the target's QEMU counts it"
        " (postcopy-blocktime)",
        derive=lambda observed: _of_target(observed, "postcopy-blocktime"),
    ),
    Metric(
        key="vcpu_blocktime_ms",
        label="blocktime of a CPU",
        quantity="pause",
        meaning="likewise one virtual CPU, the one that waited longest (postcopy-vcpu-blocktime)",
        derive=_longest_vcpu_blocktime_ms,
    ),
    Metric(
        key="cpu_before_events_per_s",
        label="CPU before",
        quantity="speed",
        meaning="the speed of a fixed loop inside the guest in the 10 s before the move",
        derive=_speed_before,
    ),
    Metric(
        key="cpu_during_events_per_s",
        label="CPU during",
        quantity="speed",
        meaning="the speed of that loop during the move",
        derive=_speed_during,
        column=True,
        share_of="cpu_before_events_per_s",
    ),
    Metric(
        key="clock_behind_ms",
        label="time of day behind",
        quantity="pause",
        meaning="by how much more the guest's CLOCK_REALTIME was behind this machine's after the move than before",
        derive=lambda observed: (
            clocks.clock_behind_ms(observed.samples.ticks, observed.window) if observed.stopped else None
        ),
    ),
)
BY_KEY: Mapping[str, Metric] = {metric.key: metric for metric in METRICS}
LONGEST_WAIT = BY_KEY["longest_wait_ms"]
REFERENCE = BY_KEY["guest_lost_ms"]
CLOCKS: tuple[tuple[Metric, Clock], ...] = tuple(
    sorted(((m, m.clock) for m in METRICS if m.clock), key=lambda pair: (pair[0] is not REFERENCE, pair[1].number))
)
"""The reference first, then from the hypervisor out to the user."""
