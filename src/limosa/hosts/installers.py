"""How distributions install what a host lacks: their package managers, and which package has a program."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Installer(msgspec.Struct, frozen=True):
    """How one distribution installs programs."""

    program: str
    install: tuple[str, ...]
    """Shell commands; the packages are their words $1 and on."""
    packages: Mapping[str, str]
    """By the program that is missing."""
    where: Mapping[str, str] = {}
    """What a person has to know of where a package is, where it may not be found."""


# None of them asks anything: apk is not interactive by itself, and none has an input here.
INSTALLERS = (
    Installer(
        "apk",
        # An image comes without an index of packages, or with an old one, and apk fetches none by itself.
        ('apk add --no-progress --update-cache "$@"',),
        {"qemu-system-x86_64": "qemu-system-x86_64", "ip": "iproute2", "tc": "iproute2", "python3": "python3"},
        # An installed Alpine leaves that line out of /etc/apk/repositories unless it is asked for.
        {"qemu-system-x86_64": "of Alpine's repository community: setup-apkrepos -c adds it"},
    ),
    Installer(
        "apt-get",
        (
            "export DEBIAN_FRONTEND=noninteractive",
            "apt-get update -q",
            'apt-get install -y -q --no-install-recommends "$@"',
        ),
        {"qemu-system-x86_64": "qemu-system-x86", "ip": "iproute2", "tc": "iproute2", "python3": "python3"},
    ),
    Installer(
        "dnf",
        # Not quiet: Fedora's passes over a repository that it cannot reach, and with -q would not say so.
        ('dnf install -y --setopt=install_weak_deps=False "$@"',),
        {
            "qemu-system-x86_64": "qemu-system-x86-core",
            "ip": "iproute",
            "tc": "iproute-tc",
            "python3": "python3",
        },
        {"qemu-system-x86-core": "Fedora's; the QEMU of Red Hat's systems has no machine types that limosa could use"},
    ),
)
