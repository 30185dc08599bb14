"""A link that is cut while the source connects, on each QEMU: newer ones hold on to the connection of a move that is
cancelled, and refuse the next move for as long."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest
from move_bench import Bench, bench

from tests.qemu_versions import QEMUS

LAB = """\
name: newer
hosts: {{host1: {qemu}, host2: {qemu}}}
guests: {{bare: {{host: host1, image: bare, memory: 64 MiB, accel: tcg, machine: pc-q35-7.2}}}}
"""
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]


@pytest.fixture(scope="module", params=["machine", "second", pytest.param("newest", marks=pytest.mark.slow)])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    found, why = QEMUS[request.param]()
    if found is None:
        pytest.skip(why)
    qemu = f"{{qemu: {found.path}, qemu_firmware: [{', '.join(found.firmware)}]}}"
    with bench(tmp_path_factory.mktemp("n"), LAB.format(qemu=qemu), "newer") as made:
        yield made


@pytest.mark.parametrize("killed", ["", "preparing", "connecting"])
def test_next_move(lab: Bench, killed: str) -> None:
    """It goes well at once, whether the first command gave its move up or was killed before or while QEMU connected."""
    lab.run("up")
    source, target = lab.ends()
    cut = f"run:{sys.executable} -m limosa host cut {target} --lab {lab.name}"
    action = {"": cut, "preparing": f"{cut} ; signal:SIGKILL", "connecting": f"{cut} ; at:connecting:signal:SIGKILL"}
    ran = lab.attempt(target, action[killed], "preparing", stall_s=1)
    assert ran.returncode == (-9 if killed else 6), ran
    lab.run("host", "restore", target)
    if killed == "connecting":  # with the link back, QEMU may come to connect before anybody gives its move up
        lab.run("up")
        target = source if lab.place() == target else target
    lab.migrate(target)
    lab.assert_once(target)
