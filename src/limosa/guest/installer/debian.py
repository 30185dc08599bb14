"""Debian through its own installer: the netboot kernel and initrd from Debian's package, answers by a preseed file.

The preseed is appended to the initrd, where debian-installer looks for it by itself; the options are those of
Debian's installation guide, appendix B (https://www.debian.org/releases/bookworm/amd64/apb).
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from limosa import paths, temporary
from limosa.errors import MachineError, SpecError
from limosa.events import Events
from limosa.guest import library
from limosa.guest.installer import login
from limosa.guest.installer.installation import Installation, Request, install
from limosa.guest.installer.player import TakeOver
from limosa.guest.installer.script import Asked, Prompt, Script, Step
from limosa.guest.installer.virtual_machine import Hardware
from limosa.guest.micro import cpio, packages

if TYPE_CHECKING:
    import asyncssh

MIRROR = "http://deb.debian.org/debian"
MEMORY_BYTES = 1 << 30
SIZE_BYTES, SMALLEST_BYTES = 4 << 30, 2 << 30
STEP_LIMIT_S = 1800.0
ARGUMENTS = (
    "console=ttyS0,115200 auto=true priority=critical DEBIAN_FRONTEND=text TERM=linux net.ifnames=0 no_timer_check ---"
)
LASTS_S = 7 * 86400.0
"""How long the installer in the cache serves: its kernel has to fit the modules that the mirror has."""

TRIED_AGAIN = 2
"""How often a download that failed is tried again, as the installer offers it: mirrors have bad moments."""

_SHOW_LOG = "\x014"
"""The installer's serial console is a ``screen``, whose fourth window shows the log; it names the file that failed."""


def _try_again(asked: Asked) -> str:
    return "1" if asked.before < TRIED_AGAIN else _SHOW_LOG


STUCK = (
    Prompt("download failed", r"Downloading a file failed:[^>]*default=1>", _try_again, times=TRIED_AGAIN + 1),
    Prompt(
        "lacking",
        r"pool/\S+\.udeb(?=:\s+[^\n]*ERROR)",
        fails=f"the mirror did not give {{0}}, {TRIED_AGAIN + 1} times; the installer's log is shown",
        anywhere=True,
    ),
    Prompt(
        "log",
        # Words of the log alone: its window is shown for a moment as the installer starts, with the kernel's in it.
        r"\b(?:anna|net-retriever|main-menu|cdebconf)(?:\[\d+\])?: [\s\S]*",
        fails=f"the mirror did not give a file that it asked for, {TRIED_AGAIN + 1} times; its log is shown",
    ),
    Prompt("no mirror", r"Bad archive mirror[^\n]*|Failed to retrieve[^\n]*", fails="{0}", anywhere=True),
    Prompt("asked", r"Prompt: '\?' for help[^\n]*>", fails="the installer asks what no answer was prepared for"),
    Prompt("note", r"\[Press enter to continue\]", fails="the installer reports a fault", anywhere=True),
    Prompt("panic", r"Kernel panic - [^\n]*\n", fails="the kernel gave up ({0})", anywhere=True),
)

PROGRESS = Prompt("progress", r"\.\.\. ?\d+%", anywhere=True, times=1_000_000)
"""Not answered, but a sign of life: the time limit counts from the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How the installed system is to be."""

    hostname: str
    authorized_keys: tuple[str, ...]
    mirror: str = MIRROR
    suite: str = "bookworm"
    programs: tuple[str, ...] = ("openssh-server", "sysbench")


def preseed(wishes: Wishes) -> str:
    """The answers. Root gets no password: it logs in by key."""
    place = urlsplit(wishes.mirror)
    keys = "\\n".join(wishes.authorized_keys)
    late = "; ".join(
        (
            "mkdir -p -m 700 /target/root/.ssh",
            f"printf '{keys}\\n' > /target/root/.ssh/authorized_keys",
            "chmod 600 /target/root/.ssh/authorized_keys",
            "in-target usermod -p '*' root",
            "sed 's/^/limosa-hostkey /' /target/etc/ssh/ssh_host_ed25519_key.pub > /dev/console",
        )
    )
    answers = (
        "debian-installer/locale string C.UTF-8",
        "keyboard-configuration/xkb-keymap select us",
        "netcfg/choose_interface select auto",
        f"netcfg/get_hostname string {wishes.hostname}",
        f"netcfg/hostname string {wishes.hostname}",
        "netcfg/get_domain string",
        "hw-detect/load_firmware boolean false",
        "mirror/country string manual",
        f"mirror/protocol string {place.scheme}",
        f"mirror/{place.scheme}/hostname string {place.netloc}",
        f"mirror/{place.scheme}/directory string {place.path or '/'}",
        f"mirror/{place.scheme}/proxy string",
        f"mirror/suite string {wishes.suite}",
        "passwd/root-login boolean true",
        "passwd/make-user boolean false",
        "passwd/root-password-crypted password *",
        "clock-setup/utc boolean true",
        "clock-setup/ntp boolean false",
        "time/zone string UTC",
        "partman-auto/disk string /dev/vda",
        "partman-auto/method string regular",
        "partman-auto/choose_recipe select atomic",
        "partman-partitioning/confirm_write_new_label boolean true",
        "partman/choose_partition select finish",
        "partman/confirm boolean true",
        "partman/confirm_nooverwrite boolean true",
        "base-installer/install-recommends boolean false",
        "apt-setup/services-select multiselect",
        "apt-setup/cdrom/set-first boolean false",
        "pkgsel/include string " + " ".join(wishes.programs),
        "pkgsel/upgrade select none",
        "grub-installer/only_debian boolean true",
        "grub-installer/bootdev string /dev/vda",
        "debian-installer/add-kernel-opts string console=tty0 console=ttyS0,115200 net.ifnames=0 no_timer_check",
        "finish-install/reboot_in_progress note",
        "finish-install/keep-consoles boolean true",
        "debian-installer/exit/poweroff boolean true",
        f"preseed/late_command string {late}",
    )
    asked = ("tasksel tasksel/first multiselect", "popularity-contest popularity-contest/participate boolean false")
    return "\n".join([*(f"d-i {answer}" for answer in answers), *asked, ""])


def install_script(limit_s: float) -> Script:
    """From the kernel's first line to a machine that is off; *limit_s* is the longest without a sign of life."""

    def until(name: str, pattern: str) -> Step:
        said = Prompt(name, pattern, ends=True, anywhere=True)
        return Step(name, (*STUCK, said, PROGRESS), limit_s, unknown_s=limit_s)

    return Script(
        "install Debian",
        (
            until(
                "start the installer", r"Starting system log daemon|Detecting |Loading additional components|Setting up"
            ),
            until("load its components", r"Starting up the partitioner|Partitions? formatting|Detecting disks"),
            until("partition the disk", r"Installing the base system|Retrieving Release|Validating|Unpacking "),
            until("install the base system", r"Configuring apt|Select and install software|Retrieving packages"),
            until("install software and boot loader", r"limosa-hostkey ssh-\S+ \S+\s"),
            Step("power off", (*STUCK, PROGRESS), limit_s, ends_with_machine=True, unknown_s=limit_s),
        ),
    )


def boot_script(hostname: str, limit_s: float) -> Script:
    """The installed disk by itself, up to the login that its serial console offers."""
    prompts = (
        Prompt("no system", r"No bootable device|grub(?: rescue)?> ", fails="nothing there boots ({0})", anywhere=True),
        Prompt("login", rf"\b{re.escape(hostname)} login: ?", ends=True),
    )
    return Script("boot the disk", (Step("login on the serial console", prompts, limit_s, unknown_s=limit_s),))


async def install_debian(request: Request, events: Events, take_over: TakeOver | None = None) -> library.Entry:
    """Install Debian, as far as the mirror has what the installer asks for; else the screen says what it met."""
    name, mirror = request.name or "debian", request.mirror.rstrip("/") or MIRROR
    if 0 < request.size_bytes < SMALLEST_BYTES:
        raise SpecError("the disk is too small for Debian", hint="--size 2GiB at least")
    if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc:
        raise SpecError(f"{mirror!r} is no mirror", hint=f"as in --mirror {MIRROR}")
    library.check_name(name)
    if (there := library.find(name)) is not None:
        raise library.ImageExists(there)
    system = packages.distribution(Path("/etc/os-release").read_text())
    if system.name != "debian":
        raise MachineError(
            f"Debian's installer is taken from Debian's packages, and this is {system.name}",
            hint="limosa image build debian, or a cloud image, needs no installer",
        )
    hostname, limit_s = re.sub(r"[^a-z0-9-]", "-", name)[:32].strip("-"), request.step_limit_s or STEP_LIMIT_S
    kernel, initrd, version = await _netboot(system.version.partition(".")[0], events)
    with temporary.folder("preseed") as folder:
        whole = folder / "initrd"

        def script(key: str) -> Script:
            wishes = Wishes(hostname=hostname, authorized_keys=(*request.public_keys, key), mirror=mirror)
            _with_preseed(initrd, preseed(wishes), whole)
            return install_script(limit_s)

        wanted = Installation(
            name=name,
            title="Debian",
            size_bytes=request.size_bytes or SIZE_BYTES,
            installer=Hardware(
                disk=Path(),
                kernel=kernel,
                initrd=whole,
                append=ARGUMENTS,
                memory_bytes=MEMORY_BYTES,
                network="open",
                reboots=False,
            ),
            script=script,
            installed=Hardware(disk=Path(), memory_bytes=MEMORY_BYTES, machine="q35", network="closed", reboots=False),
            boot=boot_script(hostname, limit_s),
            finish=_finish,
            ssh_within_s=limit_s,
            provenance={
                "how": "installed by debian-installer, preseeded",
                "system": "Debian",
                "installer": version,
                "hostname": hostname,
                "mirror": mirror,
            },
        )
        return await install(wanted, events, take_over)


NAME_HOOK = "/etc/dhcp/dhclient-exit-hooks.d/limosa-name"
NAME_SCRIPT = """\
# Take the name that DHCP gives: else all systems made of one image were called alike.
case $new_host_name in
    "" | -* | *[!a-zA-Z0-9.-]*) ;;
    *)
        echo "$new_host_name" > /etc/hostname
        grep -qw "$new_host_name" /etc/hosts || printf "127.0.1.1\\t%s\\n" "$new_host_name" >> /etc/hosts
        hostname "$new_host_name"
        ;;
esac
"""


async def _finish(connection: asyncssh.SSHClientConnection) -> dict[str, Any]:
    where = f"mkdir -p {NAME_HOOK.rpartition('/')[0]} && cat > {NAME_HOOK}"
    await login.run(connection, where, 60, stdin=NAME_SCRIPT.encode())
    return {"version": (await login.run(connection, "cat /etc/debian_version", 60)).strip()}


def _with_preseed(initrd: Path, text: str, whole: Path) -> None:
    """The installer's initrd with one more archive behind it; the kernel unpacks them all."""
    shutil.copyfile(initrd, whole)
    with whole.open("ab") as file:
        # Each archive of an initramfs begins at a multiple of 4 bytes.
        file.write(bytes(-file.tell() % 4))
        file.write(cpio.pack([cpio.file("preseed.cfg", text.encode())]))


async def _netboot(release: str, events: Events) -> tuple[Path, Path, str]:
    """The installer's kernel and initrd, from the cache or from Debian's package, unpacked and never installed."""
    package = f"debian-installer-{release}-netboot-amd64"
    kept = paths.cache() / "downloads" / package
    if not (kept / "version").is_file() or time.time() - (kept / "version").stat().st_mtime > LASTS_S:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with (
            events.stage(f"fetch {package}"),
            temporary.folder("netboot", kept.parent) as work,
        ):
            chosen = await packages.Apt(work / "apt").fetch([package], work / "archives", events)
            await packages.unpack(sorted((work / "archives").glob("*.deb")), work / "unpacked")
            new = work / "new"
            new.mkdir()
            for name in ("linux", "initrd.gz"):
                found = sorted((work / "unpacked").glob(f"usr/lib/debian-installer/images/*/amd64/text/**/{name}"))
                found[0].rename(new / name)
            (new / "version").write_text(next(p.version for p in chosen if p.name == package))
            shutil.rmtree(kept, ignore_errors=True)
            new.rename(kept)
    return kept / "linux", kept / "initrd.gz", f"{package} {(kept / 'version').read_text()}"
