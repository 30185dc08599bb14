"""The guest ``bare``: a bare-metal program of our own that counts primes or checks every page it writes.

``build`` makes it, ``kernel_arguments`` says how to start it, ``parse`` reads what it prints.
"""

from limosa.guest.bare.arguments import (
    COMMAND_RESTART,
    COMMAND_SHUTDOWN,
    COMMAND_STATUS,
    COMMAND_VERIFY,
    MEMORY_OVERHEAD_MIB,
    Mode,
    kernel_arguments,
)
from limosa.guest.bare.image import BareImage, build
from limosa.guest.bare.serial_output import (
    Failed,
    Fault,
    Lost,
    Pass,
    Primes,
    Ready,
    Report,
    SerialReader,
    Status,
    Stopped,
    Unread,
    Verified,
    parse,
)
from limosa.qemu.ram import migratable_memory_bytes

__all__ = [
    "COMMAND_RESTART",
    "COMMAND_SHUTDOWN",
    "COMMAND_STATUS",
    "COMMAND_VERIFY",
    "MEMORY_OVERHEAD_MIB",
    "BareImage",
    "Failed",
    "Fault",
    "Lost",
    "Mode",
    "Pass",
    "Primes",
    "Ready",
    "Report",
    "SerialReader",
    "Status",
    "Stopped",
    "Unread",
    "Verified",
    "build",
    "kernel_arguments",
    "migratable_memory_bytes",
    "parse",
]
