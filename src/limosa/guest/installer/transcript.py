"""What went over a console, kept as an asciicast (``asciinema play FILE``) and as plain text; secrets are masked.

The cast is version 2 of asciinema's format: a header, then one line ``[seconds, "o" or "i", text]`` an event.
"""

from __future__ import annotations

import codecs
import json
import os
import time
from pathlib import Path
from typing import IO

COLUMNS, ROWS = 80, 25
"""The size of the terminal that the installed system is told to have."""

MASK = "********"


class Transcript:
    """Two files, written as things happen: ``console.cast`` and ``console.txt``; both are the owner's alone."""

    def __init__(self, directory: Path, title: str) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.cast = directory / "console.cast"
        self.plain = directory / "console.txt"
        self._secrets: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._cast = _private(self.cast)
        self._plain = _private(self.plain)
        self._started = time.monotonic()
        header = {"version": 2, "width": COLUMNS, "height": ROWS, "timestamp": int(time.time()), "title": title}
        self._cast.write(json.dumps(header) + "\n")

    def keep_secret(self, secret: str) -> None:
        """Mask *secret* from now on, should the other side print it."""
        if secret and secret not in self._secrets:
            self._secrets.append(secret)

    def output(self, data: bytes) -> None:
        """What the machine sent."""
        self._held += self._decoder.decode(data)
        whole = self.masked(self._held)
        # The head of a secret may wait for its tail in the next piece.
        kept = max((_overlap(whole, secret) for secret in self._secrets), default=0)
        self._held = whole[len(whole) - kept :]
        self._event("o", whole[: len(whole) - kept])

    def input(self, text: str, *, secret: bool = False) -> None:
        """What was typed."""
        self._event("i", MASK + "\r" if secret else self.masked(text))

    def text(self, text: str) -> None:
        """A piece of the plain text."""
        self._plain.write(self.masked(text))
        self._plain.flush()

    def masked(self, text: str) -> str:
        """*text* without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def close(self) -> None:
        """Write what is held back, and close both files."""
        self._event("o", self._held)
        self._held = ""
        self._cast.close()
        self._plain.close()

    def _event(self, kind: str, text: str) -> None:
        if text:
            self._cast.write(json.dumps([round(time.monotonic() - self._started, 3), kind, text]) + "\n")
            self._cast.flush()


def _private(path: Path) -> IO[str]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="")


def _overlap(text: str, secret: str) -> int:
    """How many of *text*'s last characters are the head of *secret*."""
    longest = min(len(text), len(secret) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(secret[:n])), 0)
