"""The fixes that are named: each by what is really there, and tried where that can be done."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from limosa import remedies
from limosa.remedies import KVM, Device, device, kvm_fix


@pytest.mark.parametrize(
    ("kvm", "says", "never"),
    [
        (Device(KVM, by="sudo", container=True), "--device /dev/kvm", "usermod"),
        (Device(KVM, by="sudo", virtualises=True), "sudo modprobe -a kvm_intel kvm_amd", "usermod"),
        (Device(KVM, virtualises=True), "modprobe", "sudo"),
        (Device(KVM, by="sudo", inside=True), "nested", "usermod"),
        (Device(KVM, by="sudo"), "firmware", "usermod"),
        (Device(KVM, "kvm", there=True, by="sudo"), "sudo usermod -aG kvm $USER", "chmod"),
        (Device(KVM, "kvm", there=True, by="doas"), "doas usermod -aG kvm $USER", "chmod"),
        (Device(KVM, "virt", there=True, by="sudo"), "usermod -aG virt", "kvm $USER"),
        (Device(KVM, "kvm", there=True, member=True, by="sudo"), "log in again", "usermod"),
        (Device(KVM, there=True, by="sudo"), "sudo chmod 0666 /dev/kvm", "usermod"),
        (Device(KVM, there=True, by="sudo"), "run limosa as root", "usermod"),
        (Device(KVM, there=True, by="sudo", container=True), "the machine around", "usermod"),
        (Device(KVM, there=True), "the machine around", "chmod"),
    ],
)
def test_who_may_not_open_kvm_is_told_what_lets_in(kvm: Device, says: str, never: str) -> None:
    assert says in kvm_fix(kvm)
    assert never not in kvm_fix(kvm)


@pytest.mark.parametrize(
    ("said", "group", "member"),
    [
        ("mode 660 kvm\nuser 1000\nlisted me kvm\nby sudo\n", "kvm", True),
        ("mode 660 kvm\nuser 1000\nlisted me\nby sudo\n", "kvm", False),
        ("mode 600 root\nuser 1000\nlisted me root\nby sudo\n", "", False),
        ("mode 640 kvm\nuser 1000\nlisted me kvm\nby sudo\n", "", False),
        ("mode 660 root\nuser 1000\nlisted me\nby sudo\n", "", False),
    ],
)
def test_a_device_is_read_from_what_the_machine_said(said: str, group: str, member: bool) -> None:
    assert device(KVM, said) == Device(KVM, group, there=True, member=member, by="sudo")


def test_a_device_is_asked_for_on_this_machine(tmp_path: Path) -> None:
    """Real files in the device's place, asked about by the real programs."""
    closed = tmp_path / "closed"
    closed.touch(0o600)
    seen, absent = (asked(path) for path in (closed, tmp_path / "absent"))
    assert seen.there and not seen.group
    assert not absent.there
    assert seen.by == ("" if os.geteuid() == 0 else seen.by or "absent")
    assert seen.container == remedies.in_container()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another group and becomes another user")
def test_the_fixes_for_kvm_do_let_a_user_in(tmp_path: Path) -> None:
    """The device's place is taken by a file of the same modes; what is advised is done, and the user opens it."""
    tmp_path.chmod(0o711)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    file = tmp_path / "kvm"
    file.touch()
    os.chown(file, 0, 4242)
    file.chmod(0o660)
    assert not opens(file, groups=""), "before"
    assert opens(file, groups="4242"), "a member of the group"
    file.chmod(0o600)
    assert not opens(file, groups="4242"), "root's alone: a group is no help"
    assert "chmod 0666" in kvm_fix(Device(str(file), there=True, by="sudo"))
    file.chmod(0o666)
    assert opens(file, groups="")


def opens(file: Path, *, groups: str) -> bool:
    listed = ["--groups", groups] if groups else ["--clear-groups"]
    user = ["setpriv", "--reuid", "4243", "--regid", "4243", *listed]
    return subprocess.run([*user, "sh", "-c", f"exec 3<>{file}"], capture_output=True).returncode == 0


def asked(path: Path) -> Device:
    done = subprocess.run(["sh", "-c", remedies.ASK, "sh", str(path)], capture_output=True, text=True)
    return device(str(path), done.stdout)


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        (
            {"kernel.apparmor_restrict_unprivileged_userns": "1", "user.max_user_namespaces": "0"},
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({"kernel.unprivileged_userns_clone": "0"}, "sysctl -w kernel.unprivileged_userns_clone=1"),
        ({"user.max_user_namespaces": "0"}, "sysctl -w user.max_user_namespaces=15000"),
        ({"user.max_user_namespaces": "1000"}, "run limosa as root"),
    ],
)
def test_namespaces_fix_names_the_setting(settings: dict[str, str], fix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedies.os, "geteuid", lambda: 1000)
    assert fix in remedies.namespaces_fix(lambda name: settings.get(name, ""), container=False)


def test_a_container_is_told_to_look_around_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for uid in (0, 1000):
        monkeypatch.setattr(remedies.os, "geteuid", lambda uid=uid: uid)
        assert "--privileged" in remedies.namespaces_fix(lambda _: "", container=True)
        assert "around this container" in remedies.kernel_line("modprobe tun", container=True)
    for sign, text in (
        ("run/systemd/container", b"lxc"),
        ("proc/1/environ", b"A=b\0container=lxc\0"),
        (".dockerenv", b""),
    ):
        root = tmp_path / sign.replace("/", "-")
        (root / sign).parent.mkdir(parents=True)
        assert not remedies.in_container(root)
        (root / sign).write_bytes(text)
        assert remedies.in_container(root), sign


def test_modules_are_loaded_only_where_that_would_help(tmp_path: Path) -> None:
    fix = remedies.module_fix
    assert "modprobe -a bridge veth" in fix("Unknown device type.", "bridge veth", container=False, folder=tmp_path)
    assert "take a kernel" in fix("Unknown device type.", "bridge", container=False, folder=tmp_path / "none")
    refused = fix("unshare: unshare failed: Operation not permitted", "bridge", container=True)
    assert "modprobe" not in refused and "namespaces" in refused


def test_tun_fix_by_what_is_there(tmp_path: Path) -> None:
    assert "modprobe tun" in remedies.tun_fix(tmp_path / "tun")
    (tmp_path / "tun").touch()
    assert "namespaces first" in remedies.tun_fix(tmp_path / "tun")
