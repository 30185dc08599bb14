"""What the timeline draws of a probe, as data: the report knows kinds of series and of marks, and no probe by name.

Part of the prober too (see ``limosa.probes.probe``): standard library alone.
"""

from __future__ import annotations

from typing import NamedTuple

Colour = str
"""A name in the report's theme: blue, orange, green, purple."""


class Pane(NamedTuple):
    """One plot over the run's time. Series of several probes may share it."""

    key: str
    title: str
    unit: str
    """The label of its y axis, and what follows a figure under the pointer."""
    height: int = 84
    """px"""
    logarithmic: bool = False
    """Over whole powers of ten; without, from 0."""


class Silence(NamedTuple):
    """The time between arrivals, in ms: steps. A hole of any length is seen."""

    pane: Pane
    colour: Colour
    reading: str
    """What it is called under the pointer."""
    arrived: str
    """The column with the moments of arrival, in ns."""
    label: str = ""
    """In the pane's key; empty: no key is needed."""


class Trip(NamedTuple):
    """The time from a question to its answer, in ms, by the time of asking: a band and its middle.

    A question without an answer is a mark of its own.
    """

    pane: Pane
    colour: Colour
    reading: str
    sent: str
    received: str
    """Columns with moments in ns."""
    label: str = ""


class Speed(NamedTuple):
    """*done* per second of *took*, on the guest's own clock, which is placed on ours: a band and its middle."""

    pane: Pane
    colour: Colour
    reading: str
    done: str
    took: str
    """The column with a length in ns."""
    guest_clock: str
    """The column with the guest's CLOCK_MONOTONIC, in ns."""
    label: str = ""


class Value(NamedTuple):
    """A column as it was read, divided by *scale*: a line, with a hole between one *stretch* and the next."""

    pane: Pane | None
    """None: it is told under the pointer alone."""
    colour: Colour
    reading: str
    column: str
    stretch: str
    """The column whose value is the same all along a line."""
    field: str
    """Its name among the timeline's rows, beside other values of the probe."""
    label: str = ""
    scale: float = 1.0
    filled: bool = False
    """The area below the line too."""
    dashed: bool = False
    unread: str = ""
    """What is said, and nothing drawn, where there are rows and none of them has this figure."""


Series = Silence | Trip | Speed | Value
