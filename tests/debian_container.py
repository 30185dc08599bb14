"""A real Debian for container daemons: systemd is its init, it asks for an address by DHCP, and packages lie beside it.

mmdebstrap puts both together from the machine's own sources: the image has neither QEMU nor Python, and the
repository has them with all that they need, so that what is installed in a container needs no other network than the
daemon's bridge.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import daemons
from tests.container_images import Image, described
from tests.repositories import PORT

IN_IMAGE = "systemd,systemd-sysv,udev,dbus,iproute2"
IN_REPOSITORY = "qemu-system-x86 iproute2 python3 openssh-server sudo libpam-systemd dbus-user-session"
SOURCE = f"deb [trusted=yes] http://{daemons.ADDRESS.split('/')[0]}:{PORT}/ ./\n"
"""Made here a moment ago, and signed by nobody."""
FILES = {
    "etc/systemd/network/eth0.network": "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n",
    "etc/apt/sources.list": SOURCE,
    "etc/resolv.conf": "",
    # With a login ends what is in its session, root's too, but for one user.
    "etc/systemd/logind.conf.d/tests.conf": "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=spared\n",
    # Languages of package descriptions are fetched by nobody.
    "etc/apt/apt.conf.d/tests": 'Acquire::Languages "none";\nAcquire::Retries "0";\n',
}
HOOKS = (
    f'chroot "$1" apt-get install -y -q --no-install-recommends --download-only {IN_REPOSITORY}',
    "copy-out /var/cache/apt/archives {repository}",
    'rm -rf "$1"/etc/apt/sources.list.d/*',
    'cp -R {overlay}/. "$1"/ && chroot "$1" systemctl --quiet enable systemd-networkd',
    # What has to be different on every machine.
    'rm -f "$1"/etc/ssh/ssh_host_*_key*; : >"$1"/etc/machine-id',
)


def built(directory: Path) -> Image:
    """Put both together in *directory*: two to four minutes. Skips, with the reason, where that cannot be done."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("a Debian image takes root and the package mmdebstrap")
    overlay, repository = directory / "overlay", directory / "repository"
    for name, text in FILES.items():
        (overlay / name).parent.mkdir(parents=True, exist_ok=True)
        (overlay / name).write_text(text)
    # What is copied keeps its modes, and the hooks are not all run by the same user.
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", str(overlay)], check=True)
    repository.mkdir()
    rootfs = directory / "rootfs.tar"
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={IN_IMAGE}"]
    argv += [f"--customize-hook={hook.format(overlay=overlay, repository=repository)}" for hook in HOOKS]
    done = subprocess.run([*argv, "bookworm", str(rootfs)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        pytest.skip(f"mmdebstrap cannot put a Debian together here: {done.stderr.strip()[-300:]}")
    return Image(described(directory, "Debian"), rootfs, _indexed(repository / "archives"))


def _indexed(folder: Path) -> Path:
    """The folder of packages as a repository: what ``dpkg-scanpackages`` would write, by Debian's own format."""
    packages = sorted(folder.glob("*.deb"))
    assert any(package.name.startswith("qemu-system-x86_") for package in packages), packages
    entries = []
    for package in packages:
        control = subprocess.run(["dpkg-deb", "-f", str(package)], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        entries.append(f"{control}Filename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n")
    (folder / "Packages").write_text("\n".join(entries))
    folder.chmod(0o755)
    return folder
