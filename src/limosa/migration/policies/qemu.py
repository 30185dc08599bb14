"""QEMU's own loop alone: it stops the guest as soon as what is left should go over within ``downtime-limit``."""

from __future__ import annotations

from limosa.migration.policies.policy import Policy

QEMU = Policy(
    name="qemu",
    says="leaves all to QEMU, with the options that are asked for",
    source="QEMU 7.2 to 11.1, migration/migration.c, migration_iteration_run",
)
POLICIES = (QEMU,)
