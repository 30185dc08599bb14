"""What the user wrote, checked, becomes frozen resolved types; only those may act.

``load`` reads a lab file, ``encode`` and ``decode`` keep its resolved form, ``schema`` describes the file.
Each imports what it needs when called: verbs on a running lab decode, and pay for neither pydantic nor YAML.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limosa.errors import SpecError

if TYPE_CHECKING:
    from limosa.spec.resolved import Lab

__all__ = ["decode", "encode", "load", "loads", "schema"]


def load(path: str | Path) -> Lab:
    """The lab that the file *path* describes, checked and filled in.

    A file is the same by whatever links it is named: its own name and folder count. Raises SpecError, which names file,
    line and key; when there are several faults, it names all of them.
    """
    from limosa import paths
    from limosa.spec import document, resolution

    text = document.read(Path(path))
    if not paths.is_text(real := Path(os.path.realpath(path))):
        raise SpecError(
            "a lab file has to lie where every folder has a name in UTF-8",
            file=str(real),
            hint="rename the folder, or copy the file elsewhere",
        )
    return resolution.resolve(document.parse(text, str(path)), real)


def loads(text: str, file: str = "") -> Lab:
    """As ``load``, from *text*; *file* is named in errors, and relative paths begin in its folder."""
    from limosa.spec import document, resolution

    return resolution.resolve(document.parse(text, file or "<text>"), Path(file) if file else None)


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a lab file."""
    from limosa.spec.json_schema import json_schema

    return json_schema()


def encode(lab: Lab) -> bytes:
    """*lab* as indented JSON; equal labs give equal bytes."""
    from limosa.spec import codec

    return codec.encode(lab)


def decode(data: bytes) -> Lab:
    """The lab that ``encode`` wrote. Raises SpecError when *data* is anything else."""
    from limosa.spec import codec

    return codec.decode(data)
