"""The lab's logs, which grow as long as guests talk: `up`, and whatever is done with a guest, cuts them to their last
part, on this machine and on the hosts that it has to do with.

Who writes a log has it open, so it is cut in place; QEMU (``logappend=on``) and the hosts append, so they go on behind
what was kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from limosa import process, tasks
from limosa.errors import LimosaError
from limosa.hosts.host import Host

LIMIT_BYTES = 16 << 20
"""What is kept of a log: some 200,000 lines."""

CUT_S = 10.0
"""How long a host may take to cut its logs, before the command goes on without."""

CUT = """
cd "$1" 2>/dev/null || exit 0
for log in *.log; do
    [ -f "$log" ] && [ ! -L "$log" ] || continue
    size=$(stat -c %s -- "$log") && [ "$size" -gt "$2" ] || continue
    # Whole blocks at once, so that nothing which is written meanwhile is lost: ext4 and XFS can.
    fallocate -c -o 0 -l $(((size - $2 + 4095) / 4096 * 4096)) -- "$log" 2>/dev/null && continue
    tail -c "$2" -- "$log" >".$log.tail" && : >"$log" && cat -- ".$log.tail" >>"$log"
    rm -f -- ".$log.tail"
done
"""
"""Of a folder and a number of bytes: each log there in place, by what every small system has."""

ENDS = r"""
cd "$1" || exit 0
for log in *.log; do
    [ -f "$log" ] || continue
    echo "$log"
    tail -n "$2" -- "$log" | tr -d '\000'
    printf '\000'
done
"""
"""Of a folder and a number of lines: each log's name and end, and a zero, of which a guest may print any number."""


async def cut(folder: Path, hosts: Iterable[Host], limit_bytes: int = LIMIT_BYTES) -> None:
    """Cut the logs in *folder* of this machine and those that *hosts* keep themselves. Never raises for one that
    cannot be cut: it is only long."""
    await tasks.together([_here(folder, limit_bytes), *(_there(host, limit_bytes) for host in hosts)])


async def ends(host: Host, lines: int) -> dict[str, str]:
    """The last *lines* of each log that *host* keeps itself, by their files' names."""
    argv = ["sh", "-c", ENDS, "sh", f"{host.runtime_directory}/log", str(lines)]
    done = await host.run(argv, check=False)
    parts = [part.partition("\n") for part in done.stdout.decode(errors="replace").split("\0") if part]
    return {name: text for name, _, text in parts}


async def _here(folder: Path, limit_bytes: int) -> None:
    with contextlib.suppress(OSError, LimosaError):
        if any(log.stat().st_size > limit_bytes for log in folder.glob("*.log")):
            await process.run(_command(str(folder), limit_bytes), check=False, timeout_s=CUT_S)


async def _there(host: Host, limit_bytes: int) -> None:
    with contextlib.suppress(LimosaError):
        await host.run(_command(f"{host.runtime_directory}/log", limit_bytes), check=False, timeout_s=CUT_S)


def _command(folder: str, limit_bytes: int) -> list[str]:
    return ["sh", "-c", CUT, "sh", folder, str(limit_bytes)]
