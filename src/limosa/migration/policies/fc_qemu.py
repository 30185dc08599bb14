"""fc.qemu (Flying Circus): throttles, allows a pause of 2 s at 80 % of 10 Gbit/s, and waits for as long as it takes.

fc.qemu 1.6 (commit 256964f), src/fc/qemu/hazmat/qemu.py and outgoing.py; the pause is that of its default.conf, where
the class says 1 s.
"""

from __future__ import annotations

from limosa.migration.policies.policy import Brief, Policy
from limosa.spec.migration_options import Value


def _begins(_brief: Brief) -> dict[str, Value]:
    return {"auto-converge": True, "downtime-limit": 2000, "max-bandwidth": 10**9}


POLICIES = (
    Policy(
        name="fc-qemu",
        says="throttles, and allows a pause of 2 s from the beginning",
        source="fc.qemu 1.6 (256964f), src/fc/qemu/hazmat/qemu.py, outgoing.py",
        begins=_begins,
    ),
)
