"""What doctor says of a host's clock, and of which lacks a machine is ready all the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace

from limosa.capabilities import Finding
from limosa.hosts.host import Host
from limosa.lab import fitness
from limosa.process import Completed
from limosa.qemu.features import Machine
from limosa.requirements import IMAGE_PURPOSE as REQUIREMENTS_FOR_IMAGES
from limosa.requirements import REQUIREMENTS
from limosa.spec import resolved
from tests.launches import FEATURES


class Elsewhere:
    """A host whose clock is wrong."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s
        self.name = "host1"

    async def run(self, argv: Sequence[str], **_: Any) -> Completed:
        said = repr(time.time() + self._ahead_s).encode()
        return Completed(tuple(argv), 0, said, b"", 0.0)


@pytest.mark.parametrize(("ahead_s", "ok"), [(0.0, True), (0.5, True), (-0.5, True), (30.0, False), (-7200.0, False)])
async def test_a_clock_that_is_wrong_is_told(ahead_s: float, ok: bool) -> None:
    found = await fitness._clock(cast(Host, Elsewhere(ahead_s)))
    assert found.ok is ok and not found.required
    assert float(found.detail.split()[0]) == pytest.approx(ahead_s, abs=0.2) and bool(found.fix) is not ok


def test_a_lab_is_ready_when_nothing_that_it_needs_is_lacking() -> None:
    fine, lacks, absent = Finding("a", True, ""), Finding("b", False, ""), Finding("c", False, "", required=False)
    assert fitness.Examined("host1", "ssh", [fine, absent]).ready
    assert not fitness.Examined("host1", "ssh", [fine, lacks, absent]).ready


def test_what_is_asked_of_a_machine_that_only_commands_is_what_doctor_finds() -> None:
    found = {*REQUIREMENTS, "Python 3.11 or newer", "disk space"}
    assert set(fitness.SKILLS) <= found, "a name that is not found would never be shown"


@pytest.mark.parametrize(("image", "required"), [("micro", True), ("bare", True), ("disk", False)])
def test_what_builds_images_is_required_where_the_lab_has_such_guests(image: str, required: bool) -> None:
    gcc = Finding("gcc", False, "missing", "install it", False, REQUIREMENTS_FOR_IMAGES)
    mmd = Finding("mmd", False, "missing", "install it", False, "limosa image build debian")
    disk = resolved.DiskImage() if image == "disk" else None
    guest = resolved.Guest("guest1", host="host1", image=image, disk_image=disk)
    lab = resolved.Lab("two", {}, {}, {}, {"guest1": guest})
    assert [(one.name, one.required) for one in fitness.needed_here([mmd, gcc], lab)] == (
        [("gcc", True), ("mmd", False)] if required else [("mmd", False), ("gcc", False)]
    )


class Alpine:
    """A host whose ip is busybox's, where its user becomes root by doas."""

    name = "host1"
    said = b"BusyBox v1.37.0 () multi-call binary.\n\nUsage: ip [OPTIONS] address|route\n\nip rule [list]\n"

    async def run(self, argv: Sequence[str], **_: Any) -> Completed:
        if argv[0] in ("ip", "unshare"):
            return Completed(tuple(argv), 1, b"", self.said, 0.0)
        answers = {"id": b"1000\n", fitness._MANAGERS: b"apk\n", fitness._BECOMES: b"/usr/bin/doas\n"}
        return Completed(tuple(argv), 0, answers[argv[0] if argv[0] == "id" else argv[2]], b"", 0.0)


async def test_an_alpine_without_iproute2_is_told_what_to_install() -> None:
    examiner = fitness._Examiner(cast(Any, None), resolved.Host("host1", kind="ssh"))
    host = cast(Host, Alpine())
    for finding in (await examiner._ip(host), await examiner._bridge_and_tap(host)):
        assert not finding.ok and "busybox's" in finding.detail
        assert finding.fix == "on host1: doas apk add iproute2"
    assert "community" in await examiner._install(host, "qemu-system-x86_64")
    assert (await examiner._root(host)).detail == "by doas, which does not ask"


@pytest.mark.parametrize("deprecated", [False, True])
async def test_a_machine_type_that_a_qemu_calls_deprecated_is_told(deprecated: bool) -> None:
    hosts = [("host1", False), ("host2", deprecated)]
    known = {host: replace(FEATURES, machines=(Machine("pc-q35-7.2", old, 8, "pc.ram"),)) for host, old in hosts}
    found = await fitness._machine_type(known)
    assert found.ok and found.detail.startswith("guests get pc-q35-7.2, which the QEMU of host1, host2 knows")
    assert ("that of host2 calls it deprecated" in found.detail) is deprecated
