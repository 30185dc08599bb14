"""Incus (and LXD): throttles the guest early and hard, and leaves the rest to QEMU.

Incus 7.3 (commit be7afc5), internal/server/instance/drivers/driver_qemu.go: ``cpu-throttle-initial`` 50,
``throttle-trigger-threshold`` 20, QEMU's own bandwidth limit of 128 MiB/s. Its pause before the switch-over, in which
it finishes its storage snapshot, is not reproduced.
"""

from __future__ import annotations

from limosa.migration.policies.policy import Brief, Policy
from limosa.spec.migration_options import OPTIONS, Value


def _begins(_brief: Brief) -> dict[str, Value]:
    return {
        "auto-converge": True,
        "cpu-throttle-initial": 50,
        "throttle-trigger-threshold": 20,
        "max-bandwidth": OPTIONS["max-bandwidth"].default,
    }


POLICIES = (
    Policy(
        name="incus",
        says="throttles the guest from 50 % on, early, and leaves the rest to QEMU",
        source="Incus 7.3 (be7afc5), internal/server/instance/drivers/driver_qemu.go",
        begins=_begins,
    ),
)
