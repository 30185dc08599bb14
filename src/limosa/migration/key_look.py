"""What a host has in a folder with keys of the user's: certificates, and whether the key belongs to its certificate.

The program runs there, as the user that runs QEMU, with nothing but Python's own library from 3.8 on (``python3 -I -S -
FOLDER ENDPOINT``, its source on standard input). The key stays there: the answer is a line of JSON without it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 20
"""Far more than any certificate has, with all that are above it."""
AUTHORITY = "ca-cert.pem"
UNLIKE = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""What OpenSSL calls a key that is not the certificate's; the last where it is of another kind."""


def look(folder: str, endpoint: str) -> dict[str, Any]:
    """``time_s``: the host's own time. ``files``: the texts of the certificates, by name. ``unread``: why a file could
    not be read, by name. ``key``: what is wrong with the key, ``unlike``, ``secret`` or in words; empty: nothing is
    known to be. *endpoint* is ``client`` or ``server``.
    """
    certificate, key = f"{endpoint}-cert.pem", f"{endpoint}-key.pem"
    found: dict[str, Any] = {"time_s": int(time.time()), "files": {}, "unread": {}, "key": ""}
    for name in (AUTHORITY, certificate, key):
        try:
            with Path(folder, name).open(encoding="latin-1") as file:
                text = file.read(MOST_BYTES)
        except OSError as error:
            found["unread"][name] = error.strerror or str(error)
        else:
            if name != key:
                found["files"][name] = text
    if not found["unread"]:
        found["key"] = _fault(Path(folder, certificate), Path(folder, key))
    return found


def _fault(certificate: Path, key: Path) -> str:
    try:
        import ssl
    except ImportError:  # a Python that was built without
        return ""
    asked: list[bool] = []

    def password() -> str:
        asked.append(True)
        return "none"

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # whether they belong together is asked, not whether they are strong
    try:
        context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        said = error.reason or str(error)
        return "unlike" if said in UNLIKE else "secret" if asked else said
    except (OSError, ValueError) as error:
        return str(error)
    return "secret" if asked else ""


if __name__ == "__main__":
    print(json.dumps(look(*sys.argv[1:])))
