"""What each operation of the Host port takes, on each kind of host that can be had here.

The hosts are those of the contract suite (``tests/contract/kinds.py``), each made once. A machine over SSH is a real
sshd in a namespace host, so its figures have the cost of SSH and of the link, and no network. It measures and judges
nothing; kinds that cannot be had are named with the reason. Nothing is left::

    python benchmarks/host_operations.py [--kind ssh-root --kind local] [--count 30] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "tests" / "contract")]

import kinds  # type: ignore[import-not-found]  # noqa: E402
import pytest  # noqa: E402

from limosa.deadline import Deadline  # noqa: E402
from limosa.errors import StateError  # noqa: E402
from limosa.hosts.host import Host  # noqa: E402
from limosa.results.statistics import Estimate, median  # noqa: E402

MEGABYTES = (1, 50)
AT_ONCE = 50
LISTENER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
while True:
    listener.accept()[0].close()
"""

Samples = dict[str, list[float]]


async def timed(count: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    """Milliseconds of each of *count* times, after one that does not count."""
    found = []
    for _ in range(count + 1):
        begun = time.monotonic()
        await work()
        found.append((time.monotonic() - begun) * 1000)
    return found[1:]


async def operations(host: Host, count: int) -> Samples:
    """Every operation, *count* times; the large files a few times."""
    found: Samples = {}
    there = (await host.run(["mktemp", "-d"])).text
    try:
        found["run"] = await timed(count, lambda: host.run(["true"]))
        found[f"run, {AT_ONCE} at once"] = await timed(
            max(2, count // 10), lambda: asyncio.gather(*(host.run(["true"]) for _ in range(AT_ONCE)))
        )
        found["spawn"] = await timed(count, lambda: host.spawn(["true"], log=f"{there}/log"))
        found["facts"] = await timed(count, host.facts)
        found["connect"] = await connects(host, there, count)
        for megabytes in MEGABYTES:
            found |= await files(host, there, megabytes, max(2, count // (3 if megabytes == 1 else 10)))
    finally:
        await host.run(["rm", "-r", there])
    return found


async def connects(host: Host, there: str, count: int) -> list[float]:
    path = f"{there}/socket"
    pid = await host.spawn(["/usr/bin/python3", "-c", LISTENER, path], log=f"{there}/log")

    async def connect() -> None:
        (await host.connect(path)).close()

    try:
        async for _ in Deadline.after(30).ticks(0.05):
            try:
                await connect()
            except StateError:
                continue
            break
        return await timed(count, connect)
    finally:
        await host.run(["kill", "-9", str(pid)])


async def files(host: Host, there: str, megabytes: int, count: int) -> Samples:
    with tempfile.TemporaryDirectory(prefix="lo") as folder:
        here, back = Path(folder, "here"), Path(folder, "back")
        here.write_bytes(data := secrets.token_bytes(megabytes * 10**6))
        found = {
            f"put {megabytes} MB": await timed(count, lambda: host.put(here, f"{there}/file")),
            f"get {megabytes} MB": await timed(count, lambda: host.get(f"{there}/file", back)),
        }
        if hashlib.sha256(back.read_bytes()).digest() != hashlib.sha256(data).digest():
            raise SystemExit(f"a file came back from {host.name} as another one")
    return found


async def measure(kind: str, count: int) -> Samples:
    with tempfile.TemporaryDirectory(prefix="lo") as state:
        os.environ["XDG_STATE_HOME"] = state
        async with kinds.KINDS[kind]() as made:
            return await operations(made.host(), count)


def shown(estimate: Estimate) -> str:
    interval = "" if estimate.low is None else f" [{estimate.low:.1f}, {estimate.high:.1f}]"
    return f"{estimate.value:.1f}{interval}"


def table(found: dict[str, Samples]) -> str:
    """Medians in ms with 95 % intervals: a row an operation, a column a kind."""
    names = list(next(iter(found.values())))
    rows = [["ms", *found]]
    rows += [[name, *(shown(median(samples[name])) for samples in found.values())] for name in names]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kind", action="append", choices=list(kinds.KINDS), help="which kinds; all, unless given")
    parser.add_argument("--count", type=int, default=30, help="how often each small operation is done")
    parser.add_argument("--json", action="store_true", help="the samples instead of the table")
    options = parser.parse_args()
    found: dict[str, Samples] = {}
    for kind in options.kind or kinds.KINDS:
        try:
            found[kind] = asyncio.run(measure(kind, options.count))
        except pytest.skip.Exception as reason:
            print(f"{kind} cannot be had here: {reason}", file=sys.stderr)
    if options.json:
        print(json.dumps(found))
    elif found:
        print(table(found))
        print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
