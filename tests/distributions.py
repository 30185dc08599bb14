"""The distributions that README promises, a row each: what ``./limosa test --on NAME`` makes a root of, or why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

INSIDE = "LIMOSA_TEST_INSIDE"
"""Set in a root of another distribution to its name: none is made in another."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
STARTING_WITH = ("git", "ca-certificates", "python3", "sudo")
"""What a newcomer has on a fresh machine; limosa and ``.ci/install`` bring the rest."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One release. A second one of Debian is a second row."""

    name: str
    """What apt calls the release."""
    title: str
    keyring: Path = KEYRING
    packages: tuple[str, ...] = STARTING_WITH
    untried: str = ""
    """Why no root of it can be made and tried; README says so too."""


DISTRIBUTIONS = {
    row.name: row
    for row in (
        Distribution("bookworm", "Debian 12"),
        Distribution("trixie", "Debian 13"),
        Distribution(
            "noble",
            "Ubuntu 24.04",
            Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg"),
            untried="no keyring that vouches for its packages was at hand",
        ),
    )
}
