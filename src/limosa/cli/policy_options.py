"""What a person says of a policy: the options that more than one verb has."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.declared import Option
from limosa.cli.values import FACTOR, LAST_RESORT, POLICY, POST_COPY_USE, duration

PolicyOption = Annotated[
    str, Option(kind=POLICY, help="What steers it under way; without it QEMU alone. limosa policy list has them.")
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
LastResortOption = Annotated[
    str, Option(kind=LAST_RESORT, help="Whether a policy out of patience may make the pause longer.")
]
TimeScaleOption = Annotated[
    float, Option(kind=FACTOR, help="Multiply the times of a policy's schedule, for small guests.")
]
