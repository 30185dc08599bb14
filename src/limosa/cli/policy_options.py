"""What a person says of a policy: the options that more than one verb has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from limosa.cli.declared import Option
from limosa.cli.values import FACTOR, LAST_RESORT, PERCENT, POLICY, POST_COPY_USE, duration

if TYPE_CHECKING:
    from limosa.migration.settings import Settings

PolicyOption = Annotated[
    str, Option(kind=POLICY, help="What steers it under way; without it QEMU alone. limosa policy has them.")
]
OutageOption = Annotated[
    float | None, Option(kind=duration(0.001), help="How long clients may go unanswered, for a policy; 300 ms.")
]
DeadlineOption = Annotated[
    float | None, Option(kind=duration(0.001), help="By when it should be over, for a policy that heeds it.")
]
PostCopyOption = Annotated[
    str, Option(kind=POST_COPY_USE, help="Whether a policy may go over to post-copy; without it never.")
]
ThrottleOption = Annotated[
    int, Option(kind=PERCENT, help="How much a policy may take from the guest's processors, up to 99; 0, nothing.")
]
LastResortOption = Annotated[
    str, Option(kind=LAST_RESORT, help="Whether a policy out of patience may make the pause longer.")
]
TimeScaleOption = Annotated[
    float, Option(kind=FACTOR, help="Multiply the times of a policy's schedule, for small guests.")
]

_UNSAID: Mapping[str, Any] = {
    "--outage": None,
    "--deadline": None,
    "--post-copy": "never",
    "--throttle": 0,
    "--last-resort": "give-up",
    "--policy-time-scale": 1.0,
}
"""The words, and what they come to where they are not said."""


def steered(settings: Settings, policy: str, said: Sequence[Any]) -> Settings:
    """*settings* with *policy* and what is *said* of it, a value for each word in their order. Raises SpecError where
    none is named that would heed it."""
    import msgspec

    from limosa.errors import SpecError

    heeded = [word for (word, unsaid), given in zip(_UNSAID.items(), said, strict=True) if given != unsaid]
    if heeded and not policy:
        raise SpecError(f"{heeded[0]} is for a policy, and none is named", hint="--policy NAME; limosa policy has them")
    return msgspec.structs.replace(allowing(settings, said), policy=policy or None)


def allowing(settings: Settings, said: Sequence[Any]) -> Settings:
    """*settings* with what policies may do."""
    import msgspec

    outage_s, deadline_s, post_copy, throttle_percent, last_resort, time_scale = said
    return msgspec.structs.replace(
        settings,
        outage_s=settings.outage_s if outage_s is None else outage_s,
        deadline_s=deadline_s,
        post_copy=post_copy,
        throttle_percent=throttle_percent,
        exceed=last_resort == "exceed",
        policy_time_scale=time_scale,
    )
