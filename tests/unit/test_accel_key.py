"""Which machine a proof of KVM belongs to, where no machine-id says so."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import cast

import msgspec

from limosa import accel
from limosa.hosts.host import Host, HostFacts
from limosa.process import Completed

FACTS = HostFacts("6.12", "a CPU", 1, 1 << 30, 1 << 30, kvm=True, tun=True)


class Says:
    """A host whose machine is called *machine*, and known by *known_by*."""

    def __init__(self, machine: str, known_by: str = "") -> None:
        self.machine, self.known_by = machine, known_by

    async def facts(self) -> HostFacts:
        return msgspec.structs.replace(FACTS, machine=self.known_by)

    async def run(self, argv: list[str], **_: object) -> Completed:
        return Completed(tuple(argv), 0, self.machine.encode(), b"", 0.0)


async def test_a_proof_is_one_machines(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"kernel")
    machines = ("one", "other", "one")
    keys = [await accel.proof_key(cast("Host", Says(m)), tmp_path / "kernel", "qemu") for m in machines]
    assert keys[0] == keys[2] != keys[1]


async def test_machines_made_from_one_image_share_no_proof(tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"kernel")
    keys = [await accel.proof_key(cast("Host", Says("one", n)), tmp_path / "kernel", "qemu") for n in ("a", "b")]
    assert keys[0] != keys[1]


def named(folder: Path) -> tuple[int, str]:
    """What the question finds where these are the files of a system."""
    script = accel._MACHINE.replace("in /etc/", f"in {folder}/etc/").replace(" /var/", f" {folder}/var/")
    done = subprocess.run(["sh", "-c", script.replace(" /sys/", f" {folder}/sys/")], capture_output=True, check=False)
    return done.returncode, done.stdout.decode()


def test_the_first_name_that_a_machine_has_counts(tmp_path: Path) -> None:
    assert named(tmp_path) == (0, ""), "Alpine in a container has none"
    for name, text in (("sys/class/dmi/id/product_uuid", "board"), ("var/lib/dbus/machine-id", "bus")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
        assert named(tmp_path) == (0, text)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("")
    assert named(tmp_path) == (0, "bus"), "an image has it empty until it first starts"
