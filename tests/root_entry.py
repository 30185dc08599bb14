"""The first process of a root of another distribution: it mounts that, goes in, and runs one command there.

Started by ``tests.other_root`` in mount and pid namespaces of its own, with what to do as JSON in its only argument.
All mounts and processes end with it. A root is entered by pivot_root: in a mere chroot nobody can make user namespaces.
Standard library alone.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

MNT_DETACH = 2
TUN = (10, 200)
"""The device's number (Documentation/admin-guide/devices.txt in the kernel)."""


def main(order: dict[str, Any]) -> int:
    """Mount, enter, run; the command's exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # Ctrl-C reaches the command too, which ends by itself
    work = Path(order["work"])
    root = work / "root"
    layers = ":".join(order["layers"])
    mount(
        "-t", "overlay", "overlay", "-o", f"lowerdir={layers},upperdir={order['upper']},workdir={work}/work", str(root)
    )
    for source, target in order["binds"]:
        put(Path(source), root / target.lstrip("/"))
    mount("-t", "proc", "proc", str(root / "proc"))
    for shared in ("dev", "sys"):
        mount("--rbind", f"/{shared}", str(root / shared))
    open_tun(work, root)
    mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(root / "run"))
    enter(root)
    child = os.fork()
    if child == 0:
        become(order)
    return reap_until(child)


def mount(*words: str) -> None:
    """Run mount, of the machine's own."""
    subprocess.run(["mount", *words], check=True)


def put(source: Path, target: Path) -> None:
    """Show a file or a directory of the machine in the root."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount("--rbind", str(source), str(target))


def open_tun(work: Path, root: Path) -> None:
    """Give everybody /dev/net/tun, as udev does on ordinary systems; some machines have it for root alone."""
    if (root / "dev/net/tun").exists():
        os.mknod(work / "tun", 0o666 | stat.S_IFCHR, os.makedev(*TUN))
        (work / "tun").chmod(0o666)
        mount("--bind", str(work / "tun"), str(root / "dev/net/tun"))


def enter(root: Path) -> None:
    """Make *root* the root of this namespace, and let go of the machine's."""
    os.chdir(root)
    subprocess.run(["pivot_root", ".", "."], check=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(b".", MNT_DETACH):
        raise OSError(ctypes.get_errno(), "umount2")
    os.chdir("/")


def become(order: dict[str, Any]) -> None:
    """Become the user and the command. Does not return."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.setgroups([order["uid"]])
        os.setgid(order["uid"])
        os.setuid(order["uid"])
        os.chdir(order["folder"])
        os.execvpe(order["argv"][0], order["argv"], order["env"])
    except OSError as error:
        print(f"{order['argv'][0]}: {error}", file=sys.stderr)
    os._exit(127)


def reap_until(child: int) -> int:
    """Collect whatever ends here, as an init does, until *child* has; its exit status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return max(os.waitstatus_to_exitcode(status), -1) % 256


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
