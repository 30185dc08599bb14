"""A real cloud image, fetched over HTTP: cloud-init of Debian gets user, key and network, and the guest is moved.

Marked slow: the image takes minutes to build, and an emulated cloud-init minutes to run.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa import requirements
from limosa.events import Events
from limosa.guest import debian
from tests import cloud_image, file_server
from tests.limosa_command import Command, Traces, with_own_cache
from tests.main_job import goes_through, lab_file

pytestmark = [pytest.mark.system, pytest.mark.slow]

WITHIN_S = 2400


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    lacking = asyncio.run(requirements.missing(debian.needed()))
    if lacking:
        pytest.skip(f"this machine lacks {', '.join(requirements.packages(lacking))}")
    folder = Path(tempfile.mkdtemp(prefix="limosa-cloud-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def command(home: Path) -> Command:
    return with_own_cache(home)


@pytest.fixture(scope="module")
def image(home: Path) -> Iterator[str]:
    """What a lab file says of the image, but for its end."""
    folder = home / "image"
    folder.mkdir()
    content = asyncio.run(cloud_image.make(folder, Events())).read_bytes()
    with file_server.served(content) as server:
        yield f"{{url: '{server.url}/cloud.qcow2', sha256: {server.sha256}, format: qcow2"


def test_the_image_brings_nothing_of_its_own(image: str, home: Path) -> None:
    raw = home / "image/look.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", home / "image/cloud.qcow2", raw], check=True)

    def names(folder: str) -> str:
        ask = ["debugfs", "-R", f"ls -p {folder}", f"{raw}?offset={33 << 20}"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout

    assert "/authorized_keys/" not in names("/root/.ssh") and "ssh_host" not in names("/etc/ssh")
    assert "/debian/" not in names("/home") and ".yaml" not in names("/etc/netplan")
    assert ".network" not in names("/etc/systemd/network") and "limosa" not in names("/usr/local/sbin")
    raw.unlink()


def test_it_goes_through_the_main_job(image: str, command: Command) -> None:
    goes_through(command, lab_file(command.home, "cloud", image + "}"), within_s=WITHIN_S)


def test_cloud_init_did_all_that_the_seed_says(image: str, command: Command) -> None:
    """Another user than root, and what is found in the guest, also after it was moved and started anew."""
    file, traces = lab_file(command.home, "users", image + ", user: debian}"), Traces(command.home)

    def said(line: str, within_s: float = 300) -> str:
        return command.ok("ssh", "--lab", "users", "guest1", "--", line, timeout_s=within_s).text.strip()

    try:
        command.ok("up", str(file), timeout_s=WITHIN_S)
        assert "status: done" in said("cloud-init status --wait", within_s=WITHIN_S)
        assert said("hostname; id -un") == "guest1\ndebian"
        assert said("sudo -n cat /var/lib/cloud/instance/datasource").startswith("DataSourceNoCloud")
        assert "10.77.1.100/24" in said("ip -4 -o address show dev eth0")
        assert said("sudo -n awk -F: '$2 !~ /^[!*]/' /etc/shadow") == "", "an account has a password"
        assert "guest1" in said("cat /etc/hosts")
        assert said("ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key"
        assert "WARNING" not in said("sudo -n cat /var/log/cloud-init.log | grep -F WARNING || true")
        root = command.run("ssh", "--lab", "users", "guest1", "--", "sudo -n cat /root/.ssh/authorized_keys || true")
        assert all("no-port-forwarding" in line for line in root.text.splitlines()), "root can log in"
        said("echo kept | sudo -n tee /kept && sync")  # the plug is pulled below
        command.ok("migrate", "--lab", "users", "guest1", "host2")
        command.ok("migrate", "--lab", "users", "guest1", "host1")
        instance = said("cat /run/cloud-init/.instance-id")
        command.ok("stop", "--lab", "users", "guest1", "--force")
        command.ok("start", "--lab", "users", "guest1", timeout_s=WITHIN_S)
        assert said("cat /kept; cat /run/cloud-init/.instance-id") == f"kept\n{instance}"
    finally:
        command.ok("down", "--lab", "users")
    traces.assert_gone(within_s=0)
