"""Guests whose disk boots by itself, by the real command line: a boot sector that counts, over bases and copies.

The system is one sector, so that all of it takes seconds; what distributions do is in the slow tests.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import boot_sector
from tests.limosa_command import Command, Traces

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("as") is None, reason="as (binutils) is not installed"),
]

LAB = """\
name: sectors
hosts: {host1: {}, host2: {}}
guests:
  one: {host: host1, memory: 64 MiB, accel: tcg, image: {path: boot.qcow2, ssh: false}}
  two: {host: host1, memory: 64 MiB, accel: tcg, image: {path: boot.qcow2, ssh: false}}
  raw: {host: host1, memory: 64 MiB, accel: tcg, image: {path: boot.raw, format: raw, ssh: false}}
  uefi: {host: host1, memory: 128 MiB, accel: tcg, image: {path: boot.qcow2, ssh: false, firmware: uefi}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Command]:
    home = Path(tempfile.mkdtemp(prefix="limosa-disk-"))
    command, traces = Command(home), Traces(home)
    boot_sector.make(home)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "boot.raw", "boot.qcow2"], cwd=home, check=True)
    (home / "sectors.yaml").write_text(LAB)
    command.ok("up", "--no-wait", "sectors.yaml")
    traces.look()
    yield command
    command.ok("down", "--lab", "sectors")
    traces.assert_gone(within_s=0)
    shutil.rmtree(home)


def storage(lab: Command) -> Path:
    return lab.state / "labs" / "sectors" / "storage" / "shared"


def count(lab: Command, guest: str, host: str, above: int = 0, limit_s: float = 30) -> int:
    """The last count that *guest* printed on *host*, once it is more than *above*."""
    log = lab.state / "labs" / "sectors" / "log" / f"{guest}@{host}.console.log"
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = re.findall(r"tick ([0-9a-f]{4})\n", log.read_text(errors="replace")) if log.exists() else []
        if found and int(found[-1], 16) > above:
            return int(found[-1], 16)
        time.sleep(0.1)
    raise AssertionError(f"{guest} did not count above {above} on {host}: {found}")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_agentless_guest_says_what_there_is_instead(lab: Command) -> None:
    done = lab.run("ssh", "two", "true")
    done.refused(4, "runs no SSH server", hint="limosa console two")


def test_guests_share_one_base_and_move_with_their_overlays(lab: Command, tmp_path: Path) -> None:
    bases = list(storage(lab).glob("base-*"))
    assert len(bases) == 1
    before = digest(bases[0])
    began = count(lab, "one", "host1")
    lab.ok("migrate", "one", "host2")
    moved = count(lab, "one", "host2", above=began)
    lab.ok("migrate", "one", "host1")
    came_back = count(lab, "one", "host1", above=moved)
    for guest in ("one", "two"):
        lab.ok("stop", guest, "--force")
        flat = tmp_path / f"{guest}.raw"
        overlay = storage(lab) / f"{guest}.qcow2"
        subprocess.run(["qemu-img", "convert", "-O", "raw", str(overlay), str(flat)], check=True)
        assert boot_sector.written(flat) >= (came_back if guest == "one" else 1)
        assert "base-" in subprocess.run(["qemu-img", "info", str(overlay)], capture_output=True, text=True).stdout
    assert digest(bases[0]) == before == digest(lab.home / "boot.qcow2")


def test_a_raw_disk_is_copied(lab: Command) -> None:
    count(lab, "raw", "host1")
    lab.ok("stop", "raw", "--force")
    assert boot_sector.written(storage(lab) / "raw.raw") > 0
    assert boot_sector.written(lab.home / "boot.raw") == 0


def test_a_disk_that_is_there_is_kept(lab: Command) -> None:
    lab.ok("stop", "raw", "--force")
    marked = storage(lab) / "raw.raw"
    with marked.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"kept")
    lab.ok("start", "raw", "--no-wait")
    lab.ok("stop", "raw", "--force")
    assert marked.read_bytes()[1 << 20 :].startswith(b"kept")


def test_its_command_line_is_explained(lab: Command) -> None:
    text = lab.ok("explain", "one").text
    assert "-kernel" not in text and "many guests share it" in text


def test_dhcp_gives_a_guest_its_address(lab: Command) -> None:
    """A real client, on the guest's network with the guest's card, in a namespace of its own."""
    if shutil.which("busybox") is None:
        pytest.skip("busybox is not installed")
    guest = json.loads((lab.state / "labs" / "sectors" / "spec.json").read_bytes())["guests"]["two"]
    script = (
        f"ip link add link br0 name probe address {guest['mac']} type macvlan mode bridge && ip link set probe up && "
        "busybox udhcpc -i probe -n -q -t 5 -T 1 -f -s /bin/true 2>&1; ip link del probe"
    )
    done = lab.ok("exec", "host1", "--", "sh", "-c", script)
    assert f"lease of {guest['address']} obtained" in done.text


def test_uefi_starts_and_moves_with_its_settings(lab: Command) -> None:
    """There is nothing on the disk that it could boot: it says so, on either host, and its settings are its own."""
    log = lab.state / "labs" / "sectors" / "log" / "uefi@host1.console.log"
    end = time.monotonic() + 60
    while "Boot0001" not in log.read_text(errors="replace") and time.monotonic() < end:
        time.sleep(0.2)
    assert "Boot0001" in log.read_text(errors="replace")
    lab.ok("migrate", "uefi", "host2")
    lab.ok("migrate", "uefi", "host1")
    assert (storage(lab) / "uefi.uefi-vars.fd").stat().st_size > 0
    lab.ok("stop", "uefi", "--force")


def test_a_wrong_image_is_one_clear_error(lab: Command) -> None:
    text = "name: bad\nhosts: {host1: {}}\nguests: {g: {host: host1, accel: tcg, image: mirco}}\n"
    (lab.home / "bad.yaml").write_text(text)
    lab.run("up", "bad.yaml").refused(2, "there is no image 'mirco'", hint="did you mean micro?")
    assert not marked_hosts(lab, "bad")
    (lab.home / "bad.yaml").write_text(text.replace("mirco", "{path: boot.raw, ssh: false}"))
    try:
        lab.run("up", "bad.yaml").refused(2, "boot.raw is said to be qcow2, but it is raw", hint="format: raw")
        assert not list((lab.state / "labs" / "bad" / "storage" / "shared").iterdir())
    finally:
        lab.run("down", "--lab", "bad")


def marked_hosts(lab: Command, name: str) -> bool:
    return (lab.state / "labs" / name / "record.json").exists()
