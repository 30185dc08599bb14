"""Whether the kernel lets this user handle page faults of its own memory: what QEMU's post-copy stands on.

Of the standard library alone, as hosts run it too.
"""

from __future__ import annotations

import ctypes
import fcntl
import os

DEVICE = "/dev/userfaultfd"

_IOC_NEW = 0xAA00
"""USERFAULTFD_IOC_NEW (linux/userfaultfd.h)."""
_NUMBERS = {"x86_64": 323, "aarch64": 282}


def by_call() -> str:
    """Why the system call is not permitted; empty where it is."""
    number = _NUMBERS.get(os.uname().machine)
    if number is None:
        return "not known on this processor"
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return ""


def by_device() -> str:
    """Why the device does not serve; empty where it does."""
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.close(fcntl.ioctl(device, _IOC_NEW, os.O_CLOEXEC))
        finally:
            os.close(device)
    except OSError as error:
        return error.strerror or str(error)
    return ""
