"""What a row of the table of migration options says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from limosa.spec.migration_options.value_kinds import Flag, Value, ValueKind

Side = Literal["both", "source", "target"]
"""Which QEMU acts by it. An option that both act by has to be the same on both."""

TLS = "tls"
"""Stands among exclusions for an encrypted stream, which is no option."""


class Exclusion(msgspec.Struct, frozen=True):
    """What cannot be used together with an option."""

    other: str
    """The option that is excluded when it has another value than QEMU's default; or ``TLS``."""
    why: str
    """The rest of a sentence that begins with both names."""
    unless: str = ""
    """A feature (``Features.has``) that came with the mend: where both QEMUs have it, the two go together."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that QEMU can be told of a migration: a capability, which is on or off, or a parameter's value."""

    name: str
    """As people write it; QMP's own wherever that is stable."""
    purpose: str
    """What it is for, in one sentence."""
    kind: ValueKind = Flag()
    capability: bool = False
    """Whether QMP has it as a capability; else it is a parameter."""
    side: Side = "both"
    qmp: tuple[str, ...] = ()
    """Its names in QMP, the preferred one first; empty: its own."""
    default: Value = False
    """What QEMU does when it is not told."""
    ours: Value | None = None
    """What QEMU is told when nobody asks for anything; None: its own default."""
    alone: Value | None = None
    """What a QEMU that has it is told when the other has not, for an option that both act by; None: as always."""
    not_less_than: str = ""
    """Another option whose value it has to reach."""
    turns_on: Mapping[str, Value] = {}
    """What else has to be so, and is set when it is."""
    needs: Mapping[str, Value] = {}
    """What somebody has to ask for beside it."""
    excludes: tuple[Exclusion, ...] = ()
    least_with: Mapping[str, int] = {}
    """A larger least value that a QEMU with a certain feature keeps, by that feature."""
    while_moving: bool = False
    """Whether QEMU takes another value during a migration. A capability never changes then."""
    feature: str = ""
    """What beside its QMP name a QEMU must have for it to be sound (``Features.has``)."""
    guest_needs: str = ""
    """What the guest's QEMU must have been started with: ``dirty-ring``. No guest has what is not given."""
    remark: str = ""
    """What a person should know beside its purpose; for the documentation."""

    @property
    def qmp_names(self) -> tuple[str, ...]:
        """Its names in QMP."""
        return self.qmp or (self.name,)

    @property
    def unasked(self) -> Value:
        """What QEMU is told when nobody asks."""
        return self.default if self.ours is None else self.ours

    def active(self, value: Value) -> bool:
        """Whether *value* makes QEMU do something that it would not by itself."""
        return value != self.default
