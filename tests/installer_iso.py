"""An installation medium of the project's own, as small distributions have them, made from Debian's packages.

It boots by El Torito and ISOLINUX. Its text installer (``installer/install.sh``) asks for a host
name, a password twice, a key, a disk and whether to erase it; then it partitions the disk, makes a file system,
copies a small system with an SSH server, and reboots. Nothing of what answers it is on the medium.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from limosa import paths
from limosa.events import Events
from limosa.guest.micro import cpio, kernel, packages, tree

SOURCE = Path(__file__).parent / "installer"
PACKAGES = (
    *("busybox-static", "dropbear-bin", "sysbench", "iperf3"),
    *(
        "e2fsprogs",
        "fdisk",
        "util-linux",
        "grub-common",
        "grub-pc-bin",
        "isolinux",
        "syslinux-common",
        *packages.BUILD_TOOLS,
    ),
)
SYSTEM_PROGRAMS = ("sbin/dropbear", "bin/dropbearkey", "bin/sysbench", "bin/iperf3")
INSTALLER_PROGRAMS = ("sbin/mke2fs", "sbin/sfdisk")
GRUB = "usr/lib/grub/i386-pc"
GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "linux", "serial", "terminal", "normal", "configfile", "boot")
LIBRARIES = "usr/lib/x86_64-linux-gnu"

CONSOLE = "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n"
MEDIUM_CONFIG = """\
serial 0 115200
say Example Linux 1.0: loading the installer
default install
label install
    kernel /vmlinuz
    initrd /install.img
    append console=ttyS0 no_timer_check quiet
"""

INITTAB = """\
::sysinit:/etc/rc
::respawn:/usr/sbin/dropbear -F -R -s -P /run/dropbear.pid
::respawn:/bin/udhcpc -f -i eth0 -s /etc/dhcp -t 3 -T 1 -A 2
ttyS0::respawn:/bin/getty -L 115200 ttyS0 vt100
::respawn:/bin/acpid -f -c /etc/acpi -l /dev/null
::ctrlaltdel:/bin/reboot
::shutdown:/bin/umount -a -r
"""
FILES = {
    "etc/inittab": INITTAB,
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/shells": "/bin/sh\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/profile": "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\nPS1='\\u@\\h:\\w\\$ '\n",
    "etc/issue": "Example Linux 1.0 \\n \\l\n\n",
    "etc/os-release": 'ID=example\nNAME="Example Linux"\nVERSION_ID=1.0\n',
    "etc/acpi/PWRF/00000080": "#!/bin/sh\nexec /bin/poweroff\n",
}
DIRECTORIES = (
    *("boot", "etc/acpi/PWRF", "mnt", "root", "usr/bin", "usr/sbin", LIBRARIES, "usr/lib64"),
    *("var/log", "var/tmp", "sys", "proc", "dev", "run", "tmp"),
)


def digest() -> str:
    """What decides the medium: this recipe, its files, the distribution. Package versions only apt knows."""
    total = hashlib.sha256(Path("/etc/os-release").read_bytes() + Path(__file__).read_bytes())
    for part in sorted(SOURCE.glob("*.sh")):
        total.update(part.name.encode() + b"\0" + part.read_bytes())
    return total.hexdigest()[:16]


async def installer_iso(events: Events | None = None) -> Path:
    """The medium from the tests' cache, else built now. MachineError when its packages cannot be had."""
    folder = paths.cache() / "tests" / "installer-iso"
    folder.mkdir(parents=True, exist_ok=True)
    iso = folder / f"example-{digest()}.iso"
    with (folder / "lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if not iso.exists():
            with tempfile.TemporaryDirectory(prefix="limosa-iso-") as name:
                await _build(Path(name), events or Events())
                shutil.copyfile(Path(name) / "medium.iso", iso.with_suffix(".new"))
                iso.with_suffix(".new").rename(iso)
            for other in set(folder.glob("example-*.iso")) - {iso}:
                other.unlink()
    return iso


async def _build(work: Path, events: Events) -> None:
    system = packages.distribution(Path("/etc/os-release").read_text())
    wanted = [system.kernel_package, *PACKAGES]
    await packages.Apt(work / "apt").fetch(wanted, work / "archives", events)
    unpacked = work / "unpacked"
    await packages.unpack(sorted((work / "archives").glob("*.deb")), unpacked)
    found = kernel.find(unpacked)
    modules = await kernel.load_order(found, unpacked)
    files = await asyncio.to_thread(_installed_files, unpacked, modules, found.file)
    entries = [*_installer_files(unpacked, modules), *(_below("system", entry) for entry in files)]
    core = await _boot_loader(unpacked, work)
    boot = (unpacked / GRUB / "boot.img").read_bytes()
    entries += [cpio.file("boot.img", boot), cpio.file("core.img", core)]
    archive = await packages.unpacked_tool(unpacked, "zstd", "-qc3", stdin=cpio.pack(entries))
    await asyncio.to_thread(_write_iso, work / "medium.iso", unpacked, found.file, archive)


async def _boot_loader(unpacked: Path, work: Path) -> bytes:
    """GRUB's core image for the installed disk: it reads its menu from the first partition."""
    early, image = work / "early.cfg", work / "core.img"
    early.write_text(CONSOLE)
    words = ["-O", "i386-pc", "-d", str(unpacked / GRUB), "-c", str(early), "-p", "(hd0,msdos1)/boot/grub"]
    await packages.unpacked_tool(unpacked, "grub-mkimage", *words, "-o", str(image), *GRUB_MODULES, stdin=b"")
    return image.read_bytes()


def _installer_files(unpacked: Path, modules: Sequence[kernel.Module]) -> list[cpio.Entry]:
    """The initramfs of the medium, without the system that it installs."""
    programs = {name: _program(unpacked, name) for name in INSTALLER_PROGRAMS}
    return [
        *(cpio.directory(name) for name in ("bin", "dev", "etc", "mnt", "modules", "proc", "sys", "tmp")),
        *(cpio.directory(name) for name in ("sbin", "system", "usr", "usr/lib", "lib64", LIBRARIES)),
        cpio.character_device("dev/console", 5, 1),
        cpio.file("bin/busybox", tree.busybox(unpacked).read_bytes(), 0o755),
        cpio.link("bin/sh", "busybox"),
        cpio.file("init", (SOURCE / "init.sh").read_bytes(), 0o755),
        cpio.file("install", (SOURCE / "install.sh").read_bytes(), 0o755),
        cpio.file("etc/mke2fs.conf", (unpacked / "etc/mke2fs.conf").read_bytes()),
        *(cpio.file(f"sbin/{Path(name).name}", path.read_bytes(), 0o755) for name, path in programs.items()),
        *_libraries(unpacked, list(programs.values()), "lib64"),
        *_module_files(modules),
    ]


def _installed_files(unpacked: Path, modules: Sequence[kernel.Module], image: Path) -> list[cpio.Entry]:
    """The system that is installed, relative to its root."""
    programs = {name: _program(unpacked, name) for name in SYSTEM_PROGRAMS}
    busybox = tree.busybox(unpacked).read_bytes()
    scripts = {"rc.sh": "etc/rc", "dhcp.sh": "etc/dhcp"}
    folders = sorted({str(parent) for name in DIRECTORIES for parent in (Path(name), *Path(name).parents)} - {"."})
    return [
        *(cpio.directory(name) for name in folders),
        *(cpio.link(name, f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")),
        cpio.file("usr/bin/busybox", busybox, 0o755),
        *(cpio.file(name, text.encode(), 0o755 if "acpi" in name else 0o644) for name, text in FILES.items()),
        *(cpio.file(place, (SOURCE / name).read_bytes(), 0o755) for name, place in scripts.items()),
        *(cpio.file(f"usr/{name}", path.read_bytes(), 0o755) for name, path in programs.items()),
        *_libraries(unpacked, list(programs.values()), "usr/lib64"),
        cpio.file("boot/vmlinuz", image.read_bytes()),
        cpio.file("boot/initrd", _start(busybox, modules)),
    ]


def _start(busybox: bytes, modules: Sequence[kernel.Module]) -> bytes:
    """The initramfs of the installed system."""
    applets = ("cat", "findfs", "insmod", "mount", "poweroff", "sh", "switch_root", "usleep")
    return cpio.pack(
        [
            *(cpio.directory(name) for name in ("bin", "dev", "modules", "new", "proc", "sys")),
            cpio.character_device("dev/console", 5, 1),
            cpio.file("bin/busybox", busybox, 0o755),
            *(cpio.link(f"bin/{applet}", "busybox") for applet in applets),
            cpio.file("init", (SOURCE / "start.sh").read_bytes(), 0o755),
            *_module_files(modules),
        ]
    )


def _module_files(modules: Sequence[kernel.Module]) -> list[cpio.Entry]:
    order = "".join(f"{module.name}\n" for module in modules)
    files = (cpio.file(f"modules/{module.name}.ko", module.data) for module in modules)
    return [cpio.file("modules/order", order.encode()), *files]


def _libraries(unpacked: Path, programs: Sequence[Path], loader_folder: str) -> list[cpio.Entry]:
    found = tree.libraries(unpacked, programs)
    loader = (unpacked / "lib/x86_64-linux-gnu" / tree.LOADER).resolve()
    if not loader.is_file():
        loader = unpacked / LIBRARIES / tree.LOADER
    return [
        *(cpio.file(f"{LIBRARIES}/{name}", path.read_bytes()) for name, path in found.items()),
        cpio.file(f"{loader_folder}/{tree.LOADER}", loader.read_bytes(), 0o755),
    ]


def _program(unpacked: Path, name: str) -> Path:
    return next(path for path in (unpacked / "usr" / name, unpacked / name) if path.is_file())


def _below(folder: str, entry: cpio.Entry) -> cpio.Entry:
    return cpio.Entry(f"{folder}/{entry.path}", entry.mode, entry.data, entry.device)


def _write_iso(path: Path, unpacked: Path, image: Path, archive: bytes) -> None:
    import pycdlib

    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, rock_ridge="1.09", vol_ident="EXAMPLE_LINUX")
    for name, plain, data in (
        ("isolinux.bin", "/ISOLINUX.BIN;1", (unpacked / "usr/lib/ISOLINUX/isolinux.bin").read_bytes()),
        ("ldlinux.c32", "/LDLINUX.C32;1", (unpacked / "usr/lib/syslinux/modules/bios/ldlinux.c32").read_bytes()),
        ("isolinux.cfg", "/ISOLINUX.CFG;1", MEDIUM_CONFIG.encode()),
        ("vmlinuz", "/VMLINUZ.;1", image.read_bytes()),
        ("install.img", "/INSTALL.IMG;1", archive),
    ):
        iso.add_fp(BytesIO(data), len(data), plain, rr_name=name)
    iso.add_eltorito("/ISOLINUX.BIN;1", bootcatfile="/BOOT.CAT;1", boot_load_size=4, boot_info_table=True)
    with path.open("wb") as file:
        iso.write_fp(file)
        os.fsync(file.fileno())
    iso.close()
