"""The frames of a link, for both of its ends: kind, stream, channel and length, then the payload.

Each stream of a channel has a window: who sends waits for credit, so that no stream can hold up another.
"""

from __future__ import annotations

import struct

MAGIC = b"\0limosa link 1\n"
"""Said first by the far end. What comes before it is a login shell's chatter."""
HEADER = struct.Struct(">BBII")
REQUEST, ANSWER, DATA, SEEK, END, CREDIT, CLOSE, PING = range(8)
NUMBER = struct.Struct(">Q")
"""The payload of CREDIT, SEEK and of the END of a file."""
WINDOW_BYTES = 1 << 20
CREDIT_BYTES = WINDOW_BYTES // 4
"""How much is taken before credit is given back."""
CHUNK_BYTES = 1 << 16
