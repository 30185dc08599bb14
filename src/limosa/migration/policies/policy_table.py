"""All policies, by name. A new one is a file beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from limosa.errors import SpecError
from limosa.migration.policies import (
    cloud_hypervisor,
    converge,
    fc_qemu,
    ganeti,
    incus,
    kubevirt,
    nova,
    ovirt,
    proxmox,
    qemu,
    virsh,
)
from limosa.migration.policies.policy import Policy
from limosa.spec.problems import nearest

_SYSTEMS = (
    qemu, virsh, nova, ovirt, proxmox, kubevirt, incus, cloud_hypervisor, ganeti, fc_qemu, converge,
)  # fmt: skip
POLICIES: Mapping[str, Policy] = {policy.name: policy for system in _SYSTEMS for policy in system.POLICIES}


def named(name: str) -> Policy:
    """The policy of that name. Raises SpecError."""
    if name in POLICIES:
        return POLICIES[name]
    raise SpecError(f"there is no policy {name!r}{nearest(name, POLICIES)}", hint=f"one of {', '.join(POLICIES)}")
