"""Why two QEMUs did not come together over TLS, in words: each says half of it. Pure."""

from __future__ import annotations

import re

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One cause: what a side says of it (a regular expression), and the sentence, with {source} and {target}."""

    says: str
    sentence: str
    hint: str = ""


_RENEW = "limosa makes keys anew for each move; keys of your own (`tls:` of a host) are yours to renew"

FAULTS: tuple[Fault, ...] = (
    Fault(
        r"authz check for (?P<who>.*?) is denied",
        "{target} admits only {source}, and the key that came is that of {who}",
        "the hosts' keys are mixed up, or somebody else sends",
    ),
    Fault(
        r"hasn't got a known issuer|certificate issuer is unknown",
        "the key of {target} is of an authority that {source} does not know",
        "both need keys that one authority vouches for",
    ),
    Fault(
        r"does not match the hostname (?P<who>\S+)",
        "who answers at the address of {target} has another host's key, not that of {who}",
        "the hosts' keys are mixed up, or somebody else answers there",
    ),
    Fault(r"ertificate.*has expired", "a key has expired, by the clock of the host that says so", _RENEW),
    Fault(
        r"ertificate.*not yet (active|activated)",
        "a key is not valid yet, by the clock of the host that says so",
        "set the clocks of both hosts",
    ),
    Fault(
        r"certificate is not trusted",  # who is told of no other reason: gnutls has looked at the issuer before
        "a key is not good, by the clock of the host that says so: it has expired, or is not valid yet",
        _RENEW,
    ),
    Fault(
        r"unexpected TLS packet",
        "what reached {target} was not encrypted, and it takes nothing else",
        "somebody who is not {source} may send there",
    ),
    Fault(
        r"No certificate was found",
        "who reached {target} showed no key",
    ),
    Fault(
        r"Not a migration stream|unknown channel magic|failed: Invalid argument\nTLS handshake failed",
        "{source} encrypts and {target} does not expect that",
    ),
    Fault(
        r"requires? GNUTLS|GNUTLS support|TLS credentials support",
        "a QEMU is built without TLS",
        "--tls off, where everybody on the migration network may read a guest's memory",
    ),
)
"""The first that fits counts: what is plain stands before what follows from it. Texts of QEMU 7.2, 10.0 and 11.1."""


def cause(said: str, source: str, target: str) -> tuple[str, str]:
    """Why the two hosts' QEMUs, which *said* this between them, did not come together: a sentence and a hint; both
    empty where that is not known."""
    for fault in FAULTS:
        if found := re.search(fault.says, said):
            names = {
                "source": source,
                "target": target,
                **{key: str(value) for key, value in found.groupdict().items()},
            }
            return fault.sentence.format(**names), fault.hint.format(**names)
    return "", ""
