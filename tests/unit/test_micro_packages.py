"""Which packages are chosen, and what a person is told when they cannot be had."""

from __future__ import annotations

import pytest

from limosa.errors import CommandError, MachineError
from limosa.guest.micro import packages

SIMULATION = """\
NOTE: This is only a simulation!
The following NEW packages will be installed:
  libc6 perl-base
Inst libc6 (2.36-9+deb12u14 Debian:12.14/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst zlib1g (1:1.2.13.dfsg-1 Debian:12.14/oldstable [amd64])
Inst perl-base (5.36.0-7 Debian:12 [amd64])
Inst libllvm19 (1:19.1 Debian:13 [amd64])
Inst libgl1-mesa-dri (22.3 Debian:12 [amd64])
Inst libx11-data (2:1.8 Debian:12 [all])
Inst linux-image-6.1.0-56-cloud-amd64 (6.1.192-2 Debian:12 [amd64])
Inst linux-modules-6.8.0-60-generic (6.8.0-60.63 Ubuntu:24.04 [amd64])
Inst linux-modules-extra-6.8.0-60-generic (6.8.0-60.63 Ubuntu:24.04 [amd64])
Inst linux-image-cloud-amd64 (6.1.192-2 Debian:12 [amd64])
Inst sysbench:amd64 [1.0] (1.0.20+ds-5 Debian:12 [amd64])
Conf libc6 (2.36-9+deb12u14 Debian:12 [amd64])
"""


def test_libraries_kernel_and_wanted_programs_are_fetched_and_nothing_else() -> None:
    chosen = packages.chosen(SIMULATION, ["sysbench"])
    assert [(package.name, package.version) for package in chosen] == [
        ("libc6", "2.36-9+deb12u14"),
        ("zlib1g", "1:1.2.13.dfsg-1"),
        ("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"),
        ("linux-modules-6.8.0-60-generic", "6.8.0-60.63"),
        ("sysbench", "1.0.20+ds-5"),
    ]


@pytest.mark.parametrize(
    ("text", "family", "kernel"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "debian", "linux-image-cloud-amd64"),
        ("ID=debian\nVERSION_CODENAME=forky\n", "debian", "linux-image-cloud-amd64"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', "ubuntu", "linux-image-virtual"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\n', "ubuntu", "linux-image-virtual"),
    ],
)
def test_the_distribution_decides_the_kernel(text: str, family: str, kernel: str) -> None:
    system = packages.distribution(text)
    assert (system.family, system.kernel_package) == (family, kernel)


def test_every_family_has_a_general_kernel() -> None:
    assert packages.distribution("ID=debian").generic_kernel_package == "linux-image-amd64"
    assert packages.distribution("ID=ubuntu").generic_kernel_package == "linux-image-generic"


def test_a_distribution_without_a_recipe_is_named() -> None:
    with pytest.raises(MachineError, match="fedora") as caught:
        packages.distribution("ID=fedora\nVERSION_ID=41\n")
    assert "Debian 12" in caught.value.hint


@pytest.mark.parametrize(
    ("stderr", "earlier", "message", "hint"),
    [
        ("E: Unable to locate package sysbench", "", "does not know sysbench", "universe"),
        (
            "E: Unable to locate package sysbench",
            "W: Failed to fetch http://mirror/x  Temporary failure resolving 'mirror'",
            "Temporary failure resolving",
            "network",
        ),
        ("E: You don't have enough free space\nNo space left on device", "", "no space left", "free some"),
        ("E: something else", "", "could not be fetched", "apt-get"),
    ],
)
def test_a_failure_of_apt_is_one_sentence_and_a_hint(stderr: str, earlier: str, message: str, hint: str) -> None:
    error = packages.unobtainable(CommandError(["apt-get", "download"], 100, stderr), earlier)
    assert isinstance(error, MachineError)
    assert message in error.message and hint in error.hint
