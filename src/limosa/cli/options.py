"""Options and arguments that several verbs share."""

from __future__ import annotations

from typing import Annotated

from limosa.cli.declared import Argument, Option
from limosa.cli.values import GUEST, HOST, LAB

LabOption = Annotated[
    str,
    Option(
        "--lab",
        kind=LAB,
        help="The lab: its file or its name. Without it: $LIMOSA_LAB, ./limosa.yaml, or the only lab that is up.",
    ),
]
JsonOption = Annotated[bool, Option("--json", help="Print the result as one JSON document.")]
NoInstallOption = Annotated[bool, Option("--no-install", help="Install nothing; print the line that would.")]
GuestArgument = Annotated[str, Argument(kind=GUEST, help="A guest of the lab.")]
HostArgument = Annotated[str, Argument(kind=HOST, help="A host of the lab.")]
