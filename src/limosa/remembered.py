"""What was found out and costs time to find out again: kept in the cache, one file an answer."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from limosa import paths, untrusted

T = TypeVar("T")

KEPT_S = 90 * 86400.0
"""How long an answer is kept that nobody asks for: each boot of each machine has its own."""


def key(*parts: str) -> str:
    """The name of an answer to the question that *parts* are."""
    import hashlib

    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def place(kind: str, name: str, cache: Path | None = None) -> Path:
    """Where the answer *name* of that kind is kept; *cache* is another folder for the kind."""
    return (cache or paths.cache() / kind) / f"{name}.json"


def read(kept: Path, kind: type[T]) -> T | None:
    """The answer in *kept*; None where there is none that can be read."""
    try:
        return untrusted.decode(kept.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def write(kept: Path, answer: object) -> None:
    """Keep *answer*, and drop what was written long ago beside it.

    A cache that cannot be written only costs time, so it is no error.
    """
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(f".{os.getpid()}.new")
        new.write_bytes(msgspec.json.encode(answer))
        new.rename(kept)
        for other in kept.parent.glob("*.json"):
            if other.stat().st_mtime < time.time() - KEPT_S:
                other.unlink()
