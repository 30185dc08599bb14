"""Which tests may be skipped, why and on which machines: this one list. On CI's machine any other skip fails the run.

A test that is skipped everywhere tests nothing, and nobody notices. So what CI's machine can have (``.ci/run`` installs
it) has to be there; what it cannot have, or what its user may not do, stands here. An entry permits a skip where the
test and the reason fit and this machine is one of those meant: that is tried, not believed.
"""

from __future__ import annotations

import fnmatch
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests import other_root
from tests.distributions import DISTRIBUTIONS, INSIDE
from tests.qemu_versions import NEWEST_FOR, SUITES


@dataclass(frozen=True, slots=True)
class Machines:
    """Some machines: in words, and whether this is one of them."""

    words: str
    here: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Permitted:
    """Tests by a pattern of their ids, what the reason contains (one of these), and where."""

    tests: str
    reasons: tuple[str, ...]
    where: Machines


def _release(key: str) -> str:
    try:
        return platform.freedesktop_os_release().get(key, "")
    except OSError:
        return ""


def _closed(device: str) -> Callable[[], bool]:
    return lambda: not os.access(device, os.R_OK | os.W_OK)


def _cgroup() -> Path:
    unified = Path("/sys/fs/cgroup/unified")
    return unified if unified.is_dir() else Path("/sys/fs/cgroup")


EVERY = Machines("every machine", lambda: True)
"""The reason itself was found by trying, and nothing can be installed against it."""
ORDINARY_USER = Machines("where the tests do not run as root", lambda: os.geteuid() != 0)
NOT_X86 = Machines("other processors than x86-64", lambda: platform.machine() != "x86_64")
NOT_DEBIAN = Machines("other distributions than Debian", lambda: _release("ID") != "debian")
NO_SECOND_QEMU = Machines("other releases than Debian 12", lambda: _release("VERSION_CODENAME") not in SUITES)
NO_NEWEST_QEMU = Machines(
    "other releases than Debian 12 and 13", lambda: _release("VERSION_CODENAME") not in NEWEST_FOR
)
NO_APT = Machines("distributions without apt", lambda: shutil.which("apt-get") is None)
OTHER_ROOT = Machines("in a root of another distribution", lambda: INSIDE in os.environ)
NO_MOUNTS = Machines("containers that may mount no layers", lambda: bool(other_root.mounts_refused()))
SMALL = Machines("small disks", lambda: not other_root.has_room())
NO_MIRROR = Machines(
    "where Debian's mirror does not answer", lambda: bool(other_root.unreachable(DISTRIBUTIONS["trixie"]))
)
UBUNTU = Machines("Ubuntu, whose browser is no package", lambda: _release("ID") == "ubuntu")
NO_LATENCY = Machines("where /dev/cpu_dma_latency may not be written", _closed("/dev/cpu_dma_latency"))
NO_VHOST = Machines("where /dev/vhost-net does not open", _closed("/dev/vhost-net"))
NO_TUN = Machines("where /dev/net/tun does not open", _closed("/dev/net/tun"))
NO_CGROUP = Machines("containers whose cgroups are not theirs", lambda: not os.access(_cgroup(), os.W_OK))

ONLY_ROOT = ("only root", "takes root and", "not root, so", "nothing below /run is ours")
LIST = (
    Permitted("tests/system/test_documents.py::*", ("a document's block needs",), EVERY),
    Permitted("tests/*", ONLY_ROOT, ORDINARY_USER),
    Permitted("tests/*", ("userfaultfd: not permitted to this user",), ORDINARY_USER),
    Permitted("tests/*", ("mounts of one's own cannot be made",), ORDINARY_USER),
    Permitted("tests/*", ("/dev/kvm", "KVM opens, but"), EVERY),
    Permitted("tests/*", ("no suite with another QEMU is known", "apt knows no mirror of Debian"), NO_SECOND_QEMU),
    Permitted("tests/*", ("no newest QEMU is known", "apt knows no mirror of Debian"), NO_NEWEST_QEMU),
    Permitted("tests/*", ("the newest QEMU cannot be had",), NO_MIRROR),
    Permitted("tests/system/test_other_distributions.py::*", ("this is a root of",), OTHER_ROOT),
    Permitted("tests/system/test_other_distributions.py::*", ("is not installed, so no root of",), NO_APT),
    Permitted("tests/system/test_other_distributions.py::*", ("nothing can be mounted for a root of",), NO_MOUNTS),
    Permitted("tests/system/test_other_distributions.py::*", ("GiB of room",), SMALL),
    Permitted("tests/system/test_other_distributions.py::*", ("cannot be fetched: ",), NO_MIRROR),
    Permitted("tests/*", ("and dnsmasq-base)",), NOT_DEBIAN),
    Permitted("tests/*", ("no cgroup of one's own can be made",), NO_CGROUP),
    Permitted("tests/contract/test_host.py::*", ("nobody switches off the machine",), EVERY),
    Permitted("tests/contract/test_host.py::*", ("an x86 thing",), NOT_X86),
    Permitted("tests/unit/test_wakefulness.py::*", ("may not be written",), NO_LATENCY),
    Permitted("tests/system/test_features.py::*", ("/dev/vhost-net does not open",), NO_VHOST),
    Permitted("tests/system/test_features.py::*", ("no TAP can be made",), NO_TUN),
    Permitted("tests/system/test_nfs.py::*", ("this kernel mounts NFS",), EVERY),
    Permitted("tests/system/test_containers.py::*", ("cannot show a directory of this machine",), EVERY),
    Permitted("tests/system/test_agent.py::*", ("apt knows no package linux-image-cloud",), NOT_DEBIAN),
    Permitted("tests/system/test_pages_browser.py::*", ("no browser", "no pdftotext"), UBUNTU),
    Permitted("tests/system/test_report_browser.py::*", ("no browser", "the browser does not start"), UBUNTU),
    Permitted("tests/system/test_launcher.py::*", ("Python is older than 3.11", "uv is not installed"), EVERY),
)


def is_ci() -> bool:
    """Whether this is CI's machine: ``.ci/run`` says so, as hosted runners do."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def permitted(nodeid: str, reason: str) -> bool:
    """Whether the test may be skipped for that reason on this machine."""
    return any(
        fnmatch.fnmatchcase(nodeid, each.tests) and any(r in reason for r in each.reasons) and each.where.here()
        for each in LIST
    )


def complaints(skipped: Mapping[str, str]) -> list[str]:
    """A line for each test that was skipped for a reason that is not on the list; *skipped* has the reasons by test."""
    return [
        f"NOT PERMITTED TO BE SKIPPED HERE: {nodeid}: {reason}"
        for nodeid, reason in sorted(skipped.items())
        if not permitted(nodeid, reason)
    ]
