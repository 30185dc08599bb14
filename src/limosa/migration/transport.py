"""Where the stream of a migration goes, and what both QEMUs are told so that nobody else sends or reads it. Pure.

With TLS each side has a key and the certificates of an authority (``tls-creds-x509``). The source takes only a target
that is vouched for under the name that the plan says; the target only a source whose certificate has the subject that
the plan says (``authz-simple``). Without, the parameters are told as well, as an earlier move may have set them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Side = Literal["source", "target"]
ENDPOINT: Mapping[Side, str] = {"source": "client", "target": "server"}
"""What QEMU calls a side; its files are called by it."""

CREDENTIALS = "limosa-tls"
"""The id of the object that holds a side's keys, on either side."""
ADMITTED = "limosa-tls-admitted"
"""The id of the target's object that knows whom to admit."""

COST = (
    "the stream is encrypted, which costs speed: QEMU 7.2 was seen to send 373 Mbit/s instead of 2,417, and 10.0 1,058 "
    "instead of 2,258"
)


class Transport(msgspec.Struct, frozen=True, kw_only=True):
    """How the stream goes to the target's address. No secret is in it."""

    kind: Literal["tcp", "tls"] = "tcp"
    expected: str = ""
    """``tls``: the name or address that the target's certificate has to have."""
    admitted: str = ""
    """``tls``: the distinguished name of the only source that the target takes."""
    source_keys: str = ""
    """``tls``: the folder with the source's keys, where they are the user's own; empty: made for this move."""
    target_keys: str = ""
    good_until_s: float | None = None
    """Until when those of the user's own are good, both of them, in s since 1970."""

    def own_keys(self, side: Side) -> str:
        """The folder with the user's keys on that host; empty where limosa makes them."""
        return self.source_keys if side == "source" else self.target_keys

    def parameters(self, side: Side) -> dict[str, Any]:
        """As ``migrate-set-parameters`` takes them; an empty text takes back what was set."""
        if self.kind == "tcp":
            return {"tls-creds": "", "tls-hostname": "", "tls-authz": ""}
        checks = {"tls-hostname": self.expected, "tls-authz": ""}
        admits = {"tls-hostname": "", "tls-authz": ADMITTED}
        return {"tls-creds": CREDENTIALS, **(checks if side == "source" else admits)}

    def objects(self, side: Side, folder: str) -> list[dict[str, Any]]:
        """What ``object-add`` takes, one after another, when that side's keys are in *folder* of its host."""
        if self.kind == "tcp":
            return []
        keys = {"qom-type": "tls-creds-x509", "id": CREDENTIALS, "dir": folder, "endpoint": ENDPOINT[side]}
        admits = {"qom-type": "authz-simple", "id": ADMITTED, "identity": self.admitted}
        return [{**keys, "verify-peer": True}, *([admits] if side == "target" else [])]


TCP = Transport()
"""As it is, to whoever listens at the target's address."""
