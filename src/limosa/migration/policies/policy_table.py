"""All policies, by name, each with the file beside this one that has it: that is loaded when the policy is used.

A new system is a file, and a line here for each of its variants.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from limosa.errors import SpecError
from limosa.migration.policies.policy import Policy

NONE = "qemu"
"""The policy of a move that nothing steers."""

POLICIES: Mapping[str, str] = {
    NONE: "qemu",
    "virsh": "virsh",
    "virsh-timeout": "virsh",
    "nova": "nova",
    "nova-force": "nova",
    "ovirt-minimal": "ovirt",
    "ovirt-post-copy": "ovirt",
    "ovirt-suspend": "ovirt",
    "ovirt-very-large": "ovirt",
    "proxmox": "proxmox",
    "kubevirt": "kubevirt",
    "kubevirt-tuning": "kubevirt",
    "kubevirt-stall": "kubevirt",
    "incus": "incus",
    "cloud-hypervisor": "cloud_hypervisor",
    "ganeti": "ganeti",
    "fc-qemu": "fc_qemu",
    "converge": "converge",
    "auto": "auto",
}


def named(name: str) -> Policy:
    """The policy of that name. Raises SpecError."""
    if (file := POLICIES.get(name)) is None:
        from limosa.spec.problems import nearest

        raise SpecError(f"there is no policy {name!r}{nearest(name, POLICIES)}", hint=f"one of {', '.join(POLICIES)}")
    found: tuple[Policy, ...] = importlib.import_module(f"{__package__}.{file}").POLICIES
    return next(policy for policy in found if policy.name == name)


def all_policies() -> Iterator[Policy]:
    """Every one, in the order in which they are listed."""
    return (named(name) for name in POLICIES)
