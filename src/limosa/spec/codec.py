"""The resolved lab as JSON and back.

Rule: nothing but msgspec is imported, for every verb on a running lab comes by here.
"""

from __future__ import annotations

import msgspec

from limosa import untrusted
from limosa.errors import SpecError
from limosa.spec.resolved import Lab


def encode(lab: Lab) -> bytes:
    """*lab* as indented JSON; equal labs give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(lab), indent=2) + b"\n"


def decode(data: bytes) -> Lab:
    """The lab that ``encode`` wrote. Raises SpecError when *data* is anything else."""
    try:
        return untrusted.decode(data, type=Lab)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpecError(
            f"not a resolved lab of this version of Limosa: {error}", hint="resolve the lab file anew"
        ) from error
