"""What a person may choose about a migration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from limosa.errors import SpecError
from limosa.migration.choice import expanded
from limosa.migration.policies.policy import Brief
from limosa.spec.migration_options import OPTIONS, Value, merged, value
from limosa.spec.resolved import Method, PostCopyUse, Tls, Wishes


class Settings(msgspec.Struct, frozen=True):
    """Sensible by default: as much bandwidth as the link takes, QEMU's own downtime limit of 300 ms.

    ``options`` are those of docs/options.md, by name: ``{"downtime-limit": 200, "multifd-channels": 4}``. Values are in
    QEMU's units, ms and bytes/s (``"200 ms"`` is right too); None takes back what a lab file says. What is left out
    here the lab file decides. Raises SpecError for an option that there is not, or a value that no QEMU keeps.
    """

    options: Mapping[str, Value | None] = {}
    """What QEMU is told, by the option's name."""
    method: Method | None = None
    """``pre-copy`` or ``post-copy``; None: as the lab file says, else ``pre-copy``."""
    tls: Tls | None = None
    """``auto``, ``on`` or ``off``: whether the stream is encrypted; None: as the lab file says, else ``auto``."""
    policy: str | None = None
    """What steers it, by a name of ``limosa.migration.policies.policy_table``; None: QEMU's own loop."""
    post_copy: PostCopyUse = "never"
    """Whether its policy may go over to post-copy: ``last``, where it would be given up otherwise, or ``ok``."""
    outage_s: float = 0.3
    """How long a client may go without an answer, for a policy that keeps to that."""
    deadline_s: float | None = None
    """By when it should be over, for a policy that heeds that; None: whenever."""
    throttle_percent: int = 0
    """How much of the guest's processors a policy may take, 0 to 99."""
    exceed: bool = False
    """Whether, at the end of its patience, a policy may make the pause longer rather than give up."""
    policy_time_scale: float = 1.0
    """By how much the durations of a policy's schedule are multiplied: 0.05 for guests of a laboratory, where a
    system's own are meant for some GiB."""
    timeout_s: float | None = None
    """Give up after this; None: as long as it takes."""
    stall_s: float = 15.0
    """Give up when nothing at all was transferred for this long: the link is cut."""
    hand_over_s: float = 60.0
    """How long the target may take to start the guest once the source has sent everything: device state under load."""
    poll_s: float = 0.02
    """How often query-migrate is asked."""

    def __post_init__(self) -> None:
        checked = {name: value(name, given) for name, given in self.options.items()}
        msgspec.structs.force_setattr(self, "options", checked)
        for name, words in (("method", Method), ("tls", Tls), ("post_copy", PostCopyUse)):
            given = getattr(self, name)
            if given is not None and given not in get_args(words):
                raise SpecError(f"{name} cannot be {given!r}", hint=f"it is {' or '.join(get_args(words))}")
        for name in ("outage_s", "deadline_s", "policy_time_scale"):
            given = getattr(self, name)
            if given is not None and not given > 0:
                raise SpecError(f"{name} cannot be {given!r}", hint="it is more than 0")
        if not 0 <= self.throttle_percent <= 99:
            raise SpecError(f"throttle_percent cannot be {self.throttle_percent!r}", hint="it is from 0 to 99")

    def over(self, below: Wishes) -> Settings:
        """These, and what is left out in them as *below* says: a guest's part of the lab file."""
        return msgspec.structs.replace(
            self,
            options=merged(self.options, below.options),
            method=self.method or below.method,
            tls=self.tls or below.tls,
        )

    @property
    def asked(self) -> dict[str, Value]:
        """The options that somebody asks for, as QMP takes them."""
        return {name: given for name, given in self.options.items() if given is not None}

    def brief(self, memory_bytes: int) -> Brief:
        """What a policy is told of a move of a guest with so much memory."""
        return Brief(
            memory_bytes=memory_bytes,
            post_copy=self.post_copy,
            outage_s=self.outage_s,
            deadline_s=self.deadline_s,
            throttle_percent=self.throttle_percent,
            exceed=self.exceed,
            max_bandwidth_bytes_per_s=self.limit_bytes_per_s,
            time_scale=self.policy_time_scale,
        )

    @property
    def limit_bytes_per_s(self) -> int | None:
        """How much may be sent, where somebody limits that."""
        limit, asked = OPTIONS["max-bandwidth"], self.asked
        return int(asked[limit.name]) if asked.get(limit.name, limit.unasked) != limit.unasked else None

    def qemu_parameters(self) -> dict[str, Any]:
        """The bandwidth, the downtime limit and what else is asked for, as ``migrate-set-parameters`` takes them."""
        told = {name: OPTIONS[name].unasked for name in ("max-bandwidth", "downtime-limit")} | expanded(self.asked)
        return {OPTIONS[name].qmp_names[0]: given for name, given in told.items() if not OPTIONS[name].capability}
