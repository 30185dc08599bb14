"""What still breaks a rule of the gate that is younger than it: the first word of each complaint. Nothing is added,
what is mended is taken out, and an entry that nothing complains of fails too."""

from __future__ import annotations

STILL: dict[str, tuple[str, ...]] = {}
