"""A live migration from Python: build a lab, move a guest, read the raw samples with numpy.

Runs as a script (`.venv/bin/python examples/notebook.py`) and cell by cell. In Jupyter, copy the cells as they are and
say `await main()` in place of the last one: an event loop runs there already. docs/library.md has every verb.
"""

# %% Everything that is needed; the names are loaded when they are used.
import asyncio
from dataclasses import asdict
from pathlib import Path

import numpy as np

from limosa import Lab, Result, Settings, Workload, read_progress, read_ticks, reported, spec, watch

# %% A lab is described as in a file. Lab.open takes a file's path as well, or the name of a lab that is up.
DESCRIBED = spec.loads("""
name: notebook
hosts: {host1: {}, host2: {}}
guests: {guest1: {host: host1, memory: 512 MiB}}
""")


# %% Move a guest and measure what clients notice.
async def measure_a_move(workload: Workload) -> Result:
    # An ephemeral lab ends with this block, and with this process even if that is killed.
    async with Lab.open(DESCRIBED, ephemeral=True) as lab:
        await lab.up()

        # While `watch` is open the guest sends a tick a millisecond, a client asks it for echoes, and all is recorded.
        async with watch(lab, "guest1", kind="notebook", workload=workload) as watched:
            await asyncio.sleep(3)  # the clocks compare what was before with what is after
            outcome = await watched.migrate("host2", Settings(options={"downtime-limit": 200}))
            await asyncio.sleep(3)

        print(f"{outcome.source} to {outcome.target}: {outcome.info.total_time} ms in all")
        print(f"guest1 runs on {await lab.guests.where('guest1')}")
        return reported(watched.run)


# %% The figures that the report shows too.
def print_clocks(result: Result) -> None:
    for name, value_ms in asdict(result.summary.migrations[0].clocks).items():
        print(f"{name:20} {'no reading' if value_ms is None else f'{value_ms:8.1f} ms'}")
    for check in result.summary.checks:
        print(f"{check.name:20} {'ok' if check.passed else 'FAILED'}: {check.detail}")
    print(f"the report: {result.report}")


# %% The raw samples are CSV files; numpy has them as columns of int64, times in ns.
def print_holes(run: Path) -> None:
    ticks = read_ticks(run / "samples" / "ticks.csv")
    looks = read_progress(run / "samples" / "progress.csv")
    holes_ms = np.diff(ticks.received_ns) / 1e6
    worst = int(np.argmax(holes_ms))
    after_s = (ticks.received_ns[worst] - looks[0].time_ns) / 1e9
    print(f"{len(ticks)} ticks; between two of them {np.median(holes_ms):.2f} ms at the median")
    # Not always the blackout: beginning to send can hold a guest up for longer, when its processors are scarce.
    print(f"the longest hole: {holes_ms[worst]:.1f} ms, {after_s:+.2f} s from the first look at the migration")

    # What was not read is None: QEMU has no figures while it connects, and a quick move may be over before it has any.
    rates = [look.throughput_bytes_per_s for look in looks if look.throughput_bytes_per_s is not None]
    fastest = f"at most {max(rates) / 2**20:.0f} MiB/s" if rates else "none of which has a rate"
    took_s = (looks[-1].time_ns - looks[0].time_ns) / 1e9
    print(f"{len(looks)} looks in {took_s:.2f} s, {fastest}")


# %%
async def main() -> None:
    result = await measure_a_move(Workload(working_set_bytes=16 << 20, write_rate_bytes_per_s=4 << 20))
    print_clocks(result)
    print_holes(result.run)


# %%
if __name__ == "__main__":
    asyncio.run(main())
