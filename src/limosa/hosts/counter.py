"""How fast the CPU's time stamp counter (TSC) counts: a program for a host's python3, of the standard library alone.

An emulated CPU counts with its host's, and a kernel that starts on a busy machine measures that wrongly: in one of
five starts on 2 cores under 6 busy loops Debian's 6.1 took 2445 MHz for 95 MHz, and its clocks ran 26 times as fast.
So such a kernel is told.
"""

from __future__ import annotations

import mmap
import platform
import time
from collections.abc import Callable

# rdtsc; shl rdx, 32; or rax, rdx; ret
_READ = bytes.fromhex("0f31 48c1e220 4809d0 c3".replace(" ", ""))
_APART_S = 0.02
_TRIES = 9


def tsc_khz() -> int:
    """The rate in kHz, to some 10 ppm, in 20 ms; 0 where it cannot be told: another CPU, or the system forbids it."""
    if platform.machine() != "x86_64":
        return 0
    try:
        import ctypes

        with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
            code.write(_READ)
            start = ctypes.c_char.from_buffer(code)
            try:
                return _rate_khz(ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(start)))
            finally:
                del start  # else the mapping cannot be closed
    except (OSError, ImportError):
        return 0


def _rate_khz(read: Callable[[], int]) -> int:
    first_ns, first = _moment(read)
    time.sleep(_APART_S)
    last_ns, last = _moment(read)
    return round((last - first) * 1_000_000 / (last_ns - first_ns))


def _moment(read: Callable[[], int]) -> tuple[int, int]:
    """The time in ns and the count then: of several readings the one that took least, so that nothing came between."""
    taken = []
    for _ in range(_TRIES):
        before_ns = time.monotonic_ns()
        count = read()
        after_ns = time.monotonic_ns()
        taken.append((after_ns - before_ns, (before_ns + after_ns) // 2, count))
    return min(taken)[1:]


if __name__ == "__main__":
    print(tsc_khz())
