"""Alpine Linux: what its console asks, from the 3.13 series on, and what is answered; data and pure functions.

The questions are those of ``setup-alpine`` (https://gitlab.alpinelinux.org/alpine/alpine-conf). Its generations ask
for different things in different words, so one dialogue holds them all and answers whichever comes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from limosa.guest.installer.script import Asked, Prompt, Script, Secret, Step, command

MIRROR = "https://dl-cdn.alpinelinux.org/alpine"

SHELL = Prompt("shell", r"[\w.-]+:[\w~/.-]*# ?")
LOGIN = r"[\w.-]+ login: ?"

NOT_BOOTED = (
    Prompt(
        "no system",
        r"No bootable device|Boot failed: [^\n]*|No more network devices|grub(?: rescue)?> |Missing operating system",
        fails="nothing there boots ({0})",
        anywhere=True,
    ),
    Prompt("panic", r"Kernel panic - [^\n]*\n", fails="the kernel gave up ({0})", anywhere=True),
    Prompt(
        "recovery",
        r"initramfs emergency recovery shell",
        fails="its initramfs gave up and offers a shell to mend it",
        anywhere=True,
    ),
)

_ANSWERS = "/tmp/limosa-answers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How the installed system is to be."""

    hostname: str
    authorized_keys: tuple[str, ...]
    password: str = field(default="", repr=False)
    """For root; empty: none, so root logs in by key alone."""
    typed_password: str = field(repr=False)
    """What is typed where setup-alpine insists on a password: *password*, or a random one that is removed again."""
    branch: str = ""
    """``v3.15``: the folder of the mirror."""
    mirror: str = ""
    """As the machine to be installed calls it. Empty: no network, so only what is on the ISO is installed."""
    proxy: str = ""
    """The HTTP proxy that leads to the mirror; empty: none. The installed system does not keep it."""
    as_a_person: bool = False
    """Whether every question is answered, or an answer file is used."""

    kept_mirror: str = MIRROR
    """As the installed system calls it: from any network, also where there was none while it was installed."""

    @property
    def repositories(self) -> tuple[str, ...]:
        """What the mirror has of the release; none without a mirror."""
        return _parts(self.mirror, self.branch) if self.mirror else ()

    @property
    def kept_repositories(self) -> tuple[str, ...]:
        """The same as the installed system has them."""
        return _parts(self.kept_mirror, self.branch)

    def letting_in(self, key: str) -> Wishes:
        """The same, with one more key for root."""
        return replace(self, authorized_keys=(*self.authorized_keys, key))


def _parts(mirror: str, branch: str) -> tuple[str, ...]:
    return tuple(f"{mirror}/{branch}/{part}" for part in ("main", "community"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long things may take, in seconds. Emulated on a busy machine, a boot was seen to take over a minute."""

    boot_s: float = 600.0
    answer_s: float = 1800.0
    command_s: float = 300.0


def branch(version: str) -> str:
    """The mirror's folder of a release: ``v3.15`` for 3.15.4; ``edge`` for a snapshot, which is named by its day."""
    return "v" + ".".join(version.split(".")[:2]) if "." in version else "edge"


def install_script(wishes: Wishes, limits: Limits) -> Script:
    """From the ISO's first character to a machine that is off, with an installed disk."""
    begin = [
        Step("boot the ISO", (*NOT_BOOTED, Prompt("login", LOGIN, ends=True)), limits.boot_s, unknown_s=limits.boot_s),
        Step(
            "log in",
            (Prompt("shell", SHELL.pattern, ends=True), Prompt("login", LOGIN, "root")),
            limits.boot_s,
        ),
    ]
    setup, line = list[Step](), "setup-alpine"
    if not wishes.as_a_person:
        setup += [command(name, typed, SHELL, limits.command_s) for name, typed in _answer_file(wishes)]
        line += f" -f {_ANSWERS}"
    setup.append(Step("start setup-alpine", (Prompt("shell", SHELL.pattern, line, ends=True),), limits.command_s))
    setup.append(Step("setup-alpine", dialogue(wishes), limits.answer_s))
    finish = [command(name, typed, SHELL, limits.command_s) for name, typed in finishing(wishes)]
    off = Prompt("shell", SHELL.pattern, "poweroff", ends=True)
    finish += [
        Step("power off", (off,), limits.command_s, ends_with_machine=True),
        Step("wait for the end", (), limits.boot_s, ends_with_machine=True),
    ]
    return Script("install Alpine", (*begin, *setup, *finish), resumed=(*begin, *finish))


def boot_script(hostname: str, limits: Limits) -> Script:
    """The installed disk by itself, up to the login that its serial console offers."""
    login = Prompt("login", rf"\b{re.escape(hostname)} login: ?", ends=True)
    return Script(
        "boot the disk",
        (Step("login on the serial console", (*NOT_BOOTED, login), limits.boot_s, unknown_s=limits.boot_s),),
    )


def dialogue(wishes: Wishes) -> tuple[Prompt, ...]:
    """Every question of every generation, and what is answered."""
    password = Secret(wishes.typed_password)
    return (
        Prompt("complete", r"Installation is complete[^\n]*\n", ends=True, anywhere=True),
        Prompt("no disk", r"No disks (?:available|found)[^\n]*", fails="Alpine sees no disk ({0})", anywhere=True),
        Prompt("not installed", r"Enter where to store configs[^\n]*", fails="the disk was not installed ({0})"),
        Prompt("ended", SHELL.pattern, fails="setup-alpine ended without having installed a system"),
        Prompt("keymap", r"Select keyboard layout:? ?\[[^\]]*\]:?", "none"),
        Prompt("keymap variant", r"Select variant[^\n]*", "abort"),
        Prompt("hostname", r"Enter system hostname[^\n]*", wishes.hostname),
        Prompt("interface", r"Which one do you want to initialize\?[^\n]*", _interface, times=6),
        Prompt("address", r"Ip address for [^\n]*\?[^\n]*", "dhcp"),
        Prompt("manual network", r"manual network configuration\?[^\n]*", _no),
        Prompt("DNS domain", r"DNS domain name\?[^\n]*", ""),
        Prompt("DNS server", r"DNS nameserver\(?s?\)?\?[^\n]*", ""),
        Prompt("password", r"New password: ?", password),
        Prompt("password again", r"Retype password: ?", password),
        Prompt("timezone", r"Which timezone are you in\?[^\n]*", "UTC"),
        Prompt("proxy", r"HTTP/FTP proxy URL\?[^\n]*", wishes.proxy or "none"),
        Prompt("NTP client", r"Which NTP client to run\?[^\n]*", "none"),
        Prompt("mirror", r"Enter mirror number[^\n]*", _mirror(wishes), times=4),
        # 3.16 to 3.18 show the list of mirrors through a pager, which takes a key without Enter.
        Prompt("pager", r"--More--[^\n]*|(?<![^\n])(?:standard input|:)|\(END\)", "q", enter=False),
        Prompt("user", r"Setup a user\?[^\n]*", "no"),
        Prompt("SSH server", r"Which (?:SSH|ssh) server\?[^\n]*", "openssh"),
        Prompt("root login", r"Allow root ssh login\?[^\n]*", "prohibit-password"),
        # Some generations take nothing but an address here; the key is put in its place afterwards.
        Prompt("root key", r"Enter ssh key or URL for root[^\n]*", "none"),
        Prompt("disk", r"Which disk\(s\) would you like to use\?[^\n]*", "vda"),
        Prompt("disk mode", r"How would you like to use (?:it|them)\?[^\n]*", "sys"),
        Prompt("erase", r"Erase the above disk\(s\) and continue\?[^\n]*", "y"),
    )


def _no(asked: Asked) -> str:
    """Older scripts ask for a whole word."""
    return "n" if "(y/n)" in asked.match.group(0) else "no"


def _interface(asked: Asked) -> str:
    """The first one; should there be more, they are left alone."""
    return "" if asked.before == 0 else "done"


def _mirror(wishes: Wishes) -> Callable[[Asked], str]:
    # The first of the list is Alpine's own. The list is fetched too, and is empty when that failed.
    # An address is taken as it is for one repository, without the release being added.
    offers = (["1"] if wishes.mirror == MIRROR else []) + list(wishes.repositories[:1])

    def answer(asked: Asked) -> str:
        question = asked.match.group(0)
        # Asked again, one was taken already (older scripts, which propose to be done then), or it failed.
        if asked.before < len(offers) and "[done]" not in question:
            return offers[asked.before]
        return "done" if "/done" in question else "skip"

    return answer


def _answer_file(wishes: Wishes) -> list[tuple[str, str]]:
    """Shell commands that write an answer file; what it leaves open, or a generation does not know, is asked."""
    interfaces = "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n"
    # No keymap: where it is asked for, the answer is none; newer scripts do not ask on a serial console, and would take
    # "none" for a layout there.
    lines = [
        f'HOSTNAMEOPTS="-n {wishes.hostname}"',
        f'INTERFACESOPTS="{interfaces}"',
        'TIMEZONEOPTS="-z UTC"',
        f'PROXYOPTS="{wishes.proxy or "none"}"',
        'NTPOPTS="-c none"',
        'SSHDOPTS="-c openssh"',
        'DISKOPTS="-m sys /dev/vda"',
    ]
    if wishes.mirror:
        # Named repositories are taken by every generation, without a list of mirrors being fetched, and take the
        # place of the medium's.
        lines.append(f'APKREPOSOPTS="{" ".join(wishes.repositories)}"')
    text = "\\n".join(line.replace("\n", "\\n") for line in lines)
    return [("write the answer file", f"printf '%b' {shlex.quote(text + chr(92) + 'n')} > {_ANSWERS}")]


LONGEST_TYPED = 400
"""Characters of one piece. busybox's shell takes a line of 1023 (its FEATURE_EDITING_MAX_LEN), and an RSA key of
4096 bits alone is 740 long."""


def _typed_file(text: str, path: str) -> list[str]:
    """Shell commands that write *text* to ``path.001``, ``path.002`` and so on, in pieces that can be typed."""
    pieces = [text[start : start + LONGEST_TYPED] for start in range(0, len(text), LONGEST_TYPED)]
    return [f"printf '%b' {_escaped(piece)} > {path}.{number:03}" for number, piece in enumerate(pieces, start=1)]


def _escaped(text: str) -> str:
    """*text* as one line of a shell's, for ``printf '%b'``."""
    return shlex.quote(text.replace("\\", r"\\").replace("\n", r"\n"))


MOUNTING = (
    (
        "mount the installed system",
        # Of a live system that was started anew, nothing has used a disk yet.
        "modprobe ext4 2>/dev/null; for p in /dev/vda3 /dev/vda2 /dev/vda1; do "
        "mount -t ext4 $p /mnt 2>/dev/null || continue; [ -d /mnt/etc/apk ] && break; umount /mnt; done; "
        "[ -d /mnt/etc/apk ]",
    ),
    (
        "mount its boot partition",
        "ls /mnt/boot/vmlinuz* >/dev/null 2>&1 || mount -t ext4 /dev/vda1 /mnt/boot || mount /dev/vda1 /mnt/boot",
    ),
)
"""The new system's root and boot partition, whatever setup-disk has made of the disk."""


def finishing(wishes: Wishes) -> list[tuple[str, str]]:
    """What a person would still do before the reboot, each a name and a line for the live system's shell.

    The system's root is mounted again, since setup-alpine unmounts it; each line can be repeated without harm.
    """
    keys = _typed_file("\n".join(wishes.authorized_keys) + "\n", "/tmp/limosa-keys")
    lines = [
        *MOUNTING,
        *((f"type the keys, part {number}", line) for number, line in enumerate(keys, start=1)),
        (
            "allow the keys",
            "mkdir -p /mnt/root/.ssh && cat /tmp/limosa-keys.* > /mnt/root/.ssh/authorized_keys"
            " && chmod 700 /mnt/root /mnt/root/.ssh && chmod 600 /mnt/root/.ssh/authorized_keys",
        ),
        (
            "let root in by key alone",
            "sed -i '/^#*PermitRootLogin/d' /mnt/etc/ssh/sshd_config"
            " && sed -i '1i PermitRootLogin prohibit-password' /mnt/etc/ssh/sshd_config",
        ),
        (
            "have a host key",
            # A live system that was started anew has no such program any more, and the new one has.
            "[ -s /mnt/etc/ssh/ssh_host_ed25519_key ]"
            " || ssh-keygen -q -t ed25519 -N '' -f /mnt/etc/ssh/ssh_host_ed25519_key"
            " || chroot /mnt ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
        ),
        ("read the host key", "sed 's/^/limosa-hostkey /' /mnt/etc/ssh/ssh_host_ed25519_key.pub"),
        (
            "start sshd at boot",
            "[ -L /mnt/etc/runlevels/default/sshd ] || ln -s /etc/init.d/sshd /mnt/etc/runlevels/default/sshd",
        ),
        (
            "log in on the serial console",
            "grep -q '^ttyS0:' /mnt/etc/inittab"
            " || echo 'ttyS0::respawn:/sbin/getty -L 115200 ttyS0 vt100' >> /mnt/etc/inittab",
        ),
        (
            "let root use it",
            "[ ! -f /mnt/etc/securetty ] || grep -qx ttyS0 /mnt/etc/securetty || echo ttyS0 >> /mnt/etc/securetty",
        ),
        *_boot_loader(),
    ]
    # Until its first boot is over it may know the mirror by another name; without one, setup left the medium's folder.
    repositories = wishes.repositories or wishes.kept_repositories
    lines.append(("name the mirror", naming(repositories, "/mnt/etc/apk/repositories")))
    lines += _own_name("/mnt")
    if wishes.proxy:
        lines.append(("forget the proxy", "rm -f /mnt/etc/profile.d/proxy.sh"))
    if not wishes.password:
        # Not with "!", which sshd takes for an account that is locked against keys too.
        lines.append(("have no password", "sed -i 's/^root:[^:]*:/root:*:/' /mnt/etc/shadow"))
    return [*lines, ("write everything to the disk", "sync && umount /mnt/boot; umount /mnt")]


def naming(repositories: tuple[str, ...], path: str) -> str:
    """A shell command that writes *repositories* to *path*."""
    return f"printf '%s\\n' {shlex.join(repositories)} > {path}"


NAME_HOOK = "/etc/udhcpc/post-bound/limosa-name"
NAME_SCRIPT = """\
#!/bin/sh
# Take the name that DHCP gives: else all systems made of one image were called alike.
name=${1:-$hostname}
case $name in "" | -* | *[!a-zA-Z0-9.-]*) exit 0 ;; esac
[ "$(cat /etc/hostname)" = "$name" ] || echo "$name" > /etc/hostname
grep -qw "$name" /etc/hosts || printf "127.0.1.1\\t%s\\n" "$name" >> /etc/hosts
hostname "$name"
"""
DHCPCD_HOOK = "/etc/dhcpcd.exit-hook"
DHCPCD_SCRIPT = f'[ -z "$new_host_name" ] || {NAME_HOOK} "$new_host_name"\n'
"""Newer releases have dhcpcd, which leaves alone a name that a system has already."""


def _own_name(root: str) -> list[tuple[str, str]]:
    return [
        (
            f"take the name that {client} gives",
            f"mkdir -p {root}{path.rpartition('/')[0]} && printf '%b' {_escaped(text)} > {root}{path}"
            f" && chmod {mode} {root}{path}",
        )
        for client, path, text, mode in (
            ("udhcpc", NAME_HOOK, NAME_SCRIPT, 755),
            ("dhcpcd", DHCPCD_HOOK, DHCPCD_SCRIPT, 644),
        )
    ]


CONSOLES = "console=tty0 console=ttyS0,115200"

NO_TIMER_CHECK = "no_timer_check"
"""Emulated on a busy machine, Alpine's kernel was seen to panic because the timer's interrupt came too late."""


def direct(append: str, flavour: str) -> str:
    """The kernel's arguments when the medium's kernel is started without its boot loader.

    They are what ISOLINUX would hand over, *append* of its configuration and its own ``BOOT_IMAGE``, and ours.
    """
    words = (append or "modules=loop,squashfs,sd-mod,usb-storage quiet").split()
    kept = [word for word in words if not word.startswith("console=")]
    return " ".join([f"BOOT_IMAGE=/boot/vmlinuz-{flavour}", *kept, CONSOLES, NO_TIMER_CHECK])


def _boot_loader() -> list[tuple[str, str]]:
    """The kernel's serial console, now and after an update of the kernel; extlinux on BIOS machines, else GRUB."""
    extlinux, menu = "/mnt/etc/update-extlinux.conf", "/mnt/boot/extlinux.conf"
    grub, grub_menu = "/mnt/etc/default/grub", "/mnt/boot/grub/grub.cfg"
    lines = [
        (
            "serial port of extlinux",
            f"[ ! -f {extlinux} ] ||"
            f" sed -i 's/^serial_port=.*/serial_port=0/;s/^serial_baud=.*/serial_baud=115200/' {extlinux}",
        ),
        (
            "serial port of its menu",
            f"[ ! -f {menu} ] || grep -q '^SERIAL' {menu} || sed -i '1i SERIAL 0 115200' {menu}",
        ),
    ]
    for name, mark, words in (("consoles", "console=ttyS0", CONSOLES), ("timer", NO_TIMER_CHECK, NO_TIMER_CHECK)):
        for file, change in (
            # Quoted by setup-disk, but not in the package's own file.
            (extlinux, rf's/^\(default_kernel_opts=\)"\{{0,1\}}\([^"]*\)"\{{0,1\}}$/\1"{words} \2"/'),
            (menu, f"/^[ \\t]*APPEND /s/$/ {words}/"),
            (grub, f's/^GRUB_CMDLINE_LINUX_DEFAULT="/&{words} /'),
            (grub_menu, f"/^[ \\t]*linux/s/$/ {words}/"),
        ):
            lines.append(
                (
                    f"{name} in {file.removeprefix('/mnt')}",
                    f"[ ! -f {file} ] || grep -q {mark} {file} || sed -i '{change}' {file}",
                )
            )
    return lines
