"""What is added to the packages: the files that make a Debian system a guest. Nothing here belongs to one guest."""

from __future__ import annotations

from pathlib import Path

KERNEL_ARGUMENTS = "ro console=tty0 console=ttyS0,115200 no_timer_check quiet"
"""Emulated on a busy machine a timer may miss the kernel's check of it, and the kernel would then not start."""

_NETWORK = """\
[Match]
Type=ether

[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no

[DHCPv4]
UseDomains=yes
"""
_HOST_KEYS = """\
[Unit]
Description=The SSH server's own keys, made at the first boot
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
StandardOutput=journal+console

[Install]
WantedBy=multi-user.target
"""
_AGENT = """\
[Unit]
Description=What Limosa measures with inside a guest
# Whoever hears from it may log in too.
After=ssh.service
ConditionPathExists=/dev/virtio-ports/org.limosa.agent.0

[Service]
ExecStart=/usr/local/sbin/limosa-agent
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
_SSHD = """\
# Root logs in by key; nobody by password.
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
"""
PATIENCE = """\
# Emulated on a busy machine, a device may take longer to appear than the usual 90 s; the console would be given up.
[Manager]
DefaultDeviceTimeoutSec=15min
DefaultTimeoutStartSec=15min
"""
_TERMINALS = "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\n"
_MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "virtio_console", "virtio_rng"),
    *("ext4", "crc32c_generic", "sd_mod", "ahci", "nvme"),
)
"""What the initramfs needs to find its disk on any bus of a guest; a kernel without one of them goes on without."""


UNITS = ("systemd-networkd", "systemd-resolved", "ssh", "limosa-host-keys", "limosa-agent")
"""What systemd starts in this guest."""


def boot_texts(root_uuid: str) -> dict[str, str]:
    """The files by which any Debian boots from our disk: the boot loader's, the initramfs's, and the file systems."""
    menu = (
        "set timeout=0\nmenuentry 'Debian' {\n"
        f"    linux /vmlinuz root=UUID={root_uuid} {KERNEL_ARGUMENTS}\n    initrd /initrd.img\n}}\n"
    )
    early = f"search --no-floppy --fs-uuid --set=root {root_uuid}\nset prefix=($root)/boot/grub\n"
    return {
        "boot/grub/grub.cfg": _TERMINALS + menu,
        "boot/grub/early.cfg": f"{early}configfile ($root)/boot/grub/grub.cfg\n",
        "etc/fstab": f"UUID={root_uuid} / ext4 errors=remount-ro 0 1\n",
        "etc/initramfs-tools/conf.d/limosa": "MODULES=list\nCOMPRESS=zstd\nRESUME=none\nFSTYPE=ext4\n",
        "usr/share/initramfs-tools/modules.d/limosa": "".join(f"{name}\n" for name in _MODULES),
    }


def write(overlay: Path, *, root_uuid: str, authorized_key: str, agent: Path) -> None:
    """Fill the new directory *overlay*; its files are copied over the installed system."""
    texts = boot_texts(root_uuid) | {
        "etc/hosts": "127.0.0.1\tlocalhost\n",
        "etc/ssh/sshd_config.d/10-limosa.conf": _SSHD,
        "etc/systemd/network/80-ethernet.network": _NETWORK,
        "etc/systemd/system.conf.d/10-limosa.conf": PATIENCE,
        "etc/systemd/system/limosa-agent.service": _AGENT,
        "etc/systemd/system/limosa-host-keys.service": _HOST_KEYS,
        "root/.ssh/authorized_keys": f"{authorized_key.strip()}\n",
    }
    for name, text in texts.items():
        path = overlay / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
    program = overlay / "usr/local/sbin/limosa-agent"
    program.parent.mkdir(parents=True)
    program.write_bytes(agent.read_bytes())
    program.chmod(0o755)
    for path in (p for p in overlay.rglob("*") if p.is_dir()):
        path.chmod(0o755)
    for name, permissions in {"root": 0o700, "root/.ssh": 0o700, "root/.ssh/authorized_keys": 0o600}.items():
        (overlay / name).chmod(permissions)
    overlay.chmod(0o755)
