"""What each policy's moves cost, beside fixed choices, where workloads and links make them differ.

    python benchmarks/policies.py --into FOLDER --blocks 6          goes on where an earlier call with FOLDER ended
    python benchmarks/policies.py --into FOLDER --blocks 0          only tells what is there

A cell is a load of the guest on a link. In each block every way moves the guest once in every cell, in an order that is
drawn anew. A move costs its total time + 10 × the outage + 0.1 × the exposure, in seconds; one that did not complete
within ten times a bare copy of the memory costs twice that limit. The outage is what a client of the guest's echo
service misses; where that was not read, STOP to RESUME. What the load really wrote is told beside what was asked of it.

Regret is how much more a way costs than the best fixed choice of its cell, which is picked by the blocks of even number
and read on those of odd number. Each row is in FOLDER/moves.jsonl as soon as its move is over. It measures and judges
nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import random
import shutil
import statistics
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

sys.path[:0] = [str(Path(__file__).parents[1])]

from benchmarks.by_option import text  # noqa: E402
from benchmarks.migrate import GUEST, shown, state, table  # noqa: E402
from limosa import spec  # noqa: E402
from limosa.deadline import Deadline  # noqa: E402
from limosa.errors import LimosaError  # noqa: E402
from limosa.events import Event, MigrationProgressed  # noqa: E402
from limosa.experiment.measured_move import MeasuredMove, measured_move  # noqa: E402
from limosa.lab import Lab  # noqa: E402
from limosa.migration import pause_estimate  # noqa: E402
from limosa.migration.policies import policy_table  # noqa: E402
from limosa.migration.settings import Settings  # noqa: E402
from limosa.network.layout import shaping  # noqa: E402
from limosa.prediction.forecast import Range  # noqa: E402
from limosa.prediction.score import Held, scores  # noqa: E402
from limosa.results.exposure import exposure_ms  # noqa: E402
from limosa.results.statistics import median  # noqa: E402
from limosa.units import parse_bits_per_s  # noqa: E402

if TYPE_CHECKING:
    from limosa.guest.agent.client import AgentClient
    from limosa.lab.foresight import Prediction

MIB = 1 << 20
MEMORY_BYTES = 384 * MIB
OUTAGE_S = 0.3
LIMIT_COPIES = 10
OVER_LIMIT = 2
OUTAGE_WEIGHT, EXPOSURE_WEIGHT = 10.0, 0.1
BROKEN_SHARE, BROKEN_S = 1.1, 0.03
"""An outage above the limit by more than a tenth, and by more than 30 ms, broke it."""
DIP_S, DIP_SHARE = 3.0, 0.1


class Load(msgspec.Struct, frozen=True):
    """What the guest does meanwhile."""

    name: str
    size_bytes: int = 0
    """How much it writes to; 0: it idles."""
    link_share: float | None = None
    """How fast, of what the link takes; 0: as fast as it can; None: it filled that memory once, and rests."""
    compressible: float = 0.0
    cap_share: float | None = None
    """What the move may take of the link."""
    dips: bool = False
    """In the second pass the link has a tenth of its rate, for 3 s."""


LOADS = (
    Load("idle"),
    Load("paced writer", 64 * MIB, 0.4),
    Load("CPU-bound writer", 64 * MIB, 0),
    Load("large zero share", 16 * MIB, 0.2),
    Load("link dips", 64 * MIB, 0.4, dips=True),
    Load("0.9 of the link", 128 * MIB, 0.9),
    Load("1.1 of the link", 128 * MIB, 1.1),
    Load("just fits the limit", 3 * MIB, 1.5),
    Load("cap below the link", 64 * MIB, 0.4, cap_share=0.5),
    Load("read-mostly, large", 256 * MIB, None),
    Load("text-like", 192 * MIB, 0.9, compressible=0.7),
)
LINKS = ("200 Mbit/s", "1 Gbit/s")

FIXED: Mapping[str, Settings] = {
    "fixed: 300 ms": Settings(),
    "fixed: 1 s": Settings(options={"downtime-limit": 1000}),
    "fixed: 2 s": Settings(options={"downtime-limit": 2000}),
    "fixed: auto-converge": Settings(options={"auto-converge": True}),
    "fixed: xbzrle": Settings(options={"xbzrle": True}),
    "fixed: zstd": Settings(options={"multifd-compression": "zstd"}),
    "fixed: zstd, auto-converge": Settings(options={"multifd-compression": "zstd", "auto-converge": True}),
    "fixed: post-copy": Settings(method="post-copy"),
}
"""Fixed before anything was measured; ten at most."""


def steered(name: str, post_copy: bool) -> Settings:
    """By a policy, all of whose means are allowed: throttling, and where it is said so post-copy."""
    brief = Settings(policy=name, outage_s=OUTAGE_S, throttle_percent=99, policy_time_scale=0.05)
    needs = policy_table.named(name)
    return msgspec.structs.replace(
        brief,
        post_copy="ok" if post_copy or needs.post_copy == "must" else "never",
        deadline_s=60.0 if needs.needs_deadline else None,
    )


def ways() -> dict[str, Settings]:
    """All that are compared, by name."""
    others = [name for name in policy_table.POLICIES if name not in {policy_table.NONE, "auto"}]
    return {
        **FIXED,
        **{name: steered(name, post_copy=False) for name in others},
        "auto": steered("auto", post_copy=False),
        "auto, post-copy ok": steered("auto", post_copy=True),
    }


class Moved(msgspec.Struct, frozen=True):
    """One move. None: it was not read."""

    block: int
    load: str
    link: str
    way: str
    completed: bool
    why: str
    """Why it did not complete."""
    total_s: float | None
    outage_s: float | None
    exposure_s: float | None
    limit_s: float
    asked_bytes_per_s: float | None
    written_bytes_per_s: float | None
    """Before the move, by the guest's own count."""
    completes: float | None = None
    """How sure the prediction was, 0 to 1; of a way that is not foretold, None."""
    said_total_s: Range | None = None
    said_outage_s: Range | None = None

    @property
    def cost_s(self) -> float:
        """What a person pays for it."""
        if not self.completed or self.total_s is None or self.total_s > self.limit_s:
            return OVER_LIMIT * self.limit_s
        return self.total_s + OUTAGE_WEIGHT * (self.outage_s or 0) + EXPOSURE_WEIGHT * (self.exposure_s or 0)

    @property
    def broke(self) -> bool:
        """Whether clients missed more than the person allowed."""
        over = (self.outage_s or 0) > max(BROKEN_SHARE * OUTAGE_S, OUTAGE_S + BROKEN_S)
        return self.completed and over


class Record:
    """The moves that are over, in a file that another call goes on from."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.moves = folder / "moves.jsonl", list[Moved]()
        with contextlib.suppress(FileNotFoundError):
            for line in self.path.read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError):  # a call that was ended wrote half a line
                    self.moves.append(msgspec.json.decode(line, type=Moved))

    def __contains__(self, it: tuple[int, str, str, str]) -> bool:
        return any((move.block, move.load, move.link, move.way) == it for move in self.moves)

    def add(self, move: Moved) -> None:
        """Keep it."""
        self.moves.append(move)
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(move) + b"\n")


class Cell:
    """A load on a link, in a lab that is up."""

    def __init__(self, lab: Lab, load: Load, link: str) -> None:
        self.lab, self.load, self.link = lab, load, link
        self.stream_bytes_per_s = pause_estimate.stream(parse_bits_per_s(link))
        self.limit_s = LIMIT_COPIES * MEMORY_BYTES / self.stream_bytes_per_s

    @property
    def asked_bytes_per_s(self) -> float | None:
        """What is asked of the guest; None: nothing, or as much as it can."""
        return self.load.link_share * self.stream_bytes_per_s if self.load.link_share else None

    async def begin(self, agent: AgentClient) -> None:
        """Set the guest to work."""
        if not self.load.size_bytes:
            return
        rate = MIB if self.load.link_share is None else round(self.asked_bytes_per_s or 0)
        await agent.memory_start(self.load.size_bytes, rate_bytes_per_s=rate, compressibility=self.load.compressible)
        await agent.wait_memory_filled(Deadline.after(120))
        if self.load.link_share is None:
            await agent.memory_stop()

    async def written(self, agent: AgentClient) -> float | None:
        """How fast it writes, over a second."""
        if not self.load.size_bytes or self.load.link_share is None:
            return None
        await asyncio.sleep(1)
        return (await agent.memory_status()).rate_bytes_per_s

    def settings(self, way: Settings) -> Settings:
        """Of *way* here: the cap, and when it is given up."""
        options = dict(way.options)
        if self.load.cap_share is not None:
            options["max-bandwidth"] = round(self.load.cap_share * self.stream_bytes_per_s)
        return msgspec.structs.replace(way, options=options, timeout_s=self.limit_s)

    async def move(self, block: int, name: str, way: Settings, *, predict: bool) -> Moved:
        """Move the guest once."""
        async with self.lab.guests.agent(GUEST) as agent:
            written = await self.written(agent)
        source = await self.lab.guests.where(GUEST)
        target, settings = "host2" if source == "host1" else "host1", self.settings(way)
        said = await self.foretold(target, settings) if predict and settings.policy else None
        async with self._dipping(source):
            done = await measured_move(self.lab, GUEST, target, settings)
        shutil.rmtree(done.result.run)
        return self._moved(block, name, written, done, said)

    async def foretold(self, target: str, settings: Settings) -> Prediction:
        """What is said beforehand of a move that a policy steers; of ``auto`` it always is."""
        also = [settings.policy] if settings.policy and settings.policy != "auto" else []
        return await self.lab.guests.predict(GUEST, target, settings, also=also)

    def _moved(
        self, block: int, name: str, written: float | None, done: MeasuredMove, said: Prediction | None
    ) -> Moved:
        outcome, (row,) = done.outcome, done.result.summary.migrations
        completed = outcome.failure is None
        missed_ms = outcome.pause_ms if row.clocks.echo_gap_ms is None else row.clocks.echo_gap_ms
        exposed_ms = exposure_ms(outcome.phases)
        way = None
        if said is not None:
            way = next(each for each in said.ways if each.way.policy == outcome.plan.policy)
        return Moved(
            block=block,
            load=self.load.name,
            link=self.link,
            way=name,
            completed=completed,
            why="" if outcome.failure is None else outcome.failure.message,
            total_s=(outcome.info.total_time or 0) / 1000 if completed else None,
            outage_s=missed_ms / 1000 if completed and missed_ms is not None else None,
            exposure_s=None if exposed_ms is None else exposed_ms / 1000,
            limit_s=self.limit_s,
            asked_bytes_per_s=self.asked_bytes_per_s,
            written_bytes_per_s=written,
            completes=None if way is None else way.forecast.completes,
            said_total_s=None if way is None else way.forecast.total_s,
            said_outage_s=None if way is None else way.outage_s,
        )

    @contextlib.asynccontextmanager
    async def _dipping(self, source: str) -> AsyncIterator[None]:
        """Meanwhile the link of *source* dips once, in the second pass; it is as before when this is left."""
        dips = list[asyncio.Task[None]]()

        def hear(event: Event) -> None:
            if isinstance(event, MigrationProgressed) and (event.iteration or 0) >= 2 and not dips:
                dips.append(asyncio.ensure_future(self._dip(source)))

        if self.load.dips:
            self.lab.events.add(hear)
        try:
            yield
        finally:
            if self.load.dips:
                self.lab.events.remove(hear)
            await asyncio.gather(*dips)

    async def _dip(self, source: str) -> None:
        bits = parse_bits_per_s(self.link)
        try:
            await self._shape(source, round(DIP_SHARE * bits))
            await asyncio.sleep(DIP_S)
        finally:
            await self._shape(source, bits)

    async def _shape(self, host: str, bits_per_s: int) -> None:
        network = self.lab.spec.migration_network
        for line in shaping(msgspec.structs.replace(network, rate_bits_per_s=bits_per_s), "eth1"):
            await self.lab.host(host).run(["tc", *line.replace("qdisc add", "qdisc replace").split()], as_root=True)


@contextlib.asynccontextmanager
async def cell(load: Load, link: str, chosen: argparse.Namespace) -> AsyncIterator[Cell]:
    """A lab for one cell: what one load left in the guest's memory is not the next one's."""
    made = spec.loads(text(chosen.qemu, chosen.firmware, link, f"{MEMORY_BYTES // MIB} MiB"))
    async with Lab.open(made, ephemeral=True) as lab:
        await lab.up()
        here = Cell(lab, load, link)
        async with lab.guests.agent(GUEST) as agent:
            await here.begin(agent)
        yield here


async def block(number: int, record: Record, chosen: argparse.Namespace) -> None:
    """Every way once in every cell, where it has not been. Of one that ends in an error the cell begins anew."""
    cells = [(load, link) for load in LOADS for link in LINKS if chosen.cells in f"{load.name}, {link}"]
    wanted = {name: way for name, way in ways().items() if not chosen.ways or name in chosen.ways.split("; ")}
    order = random.Random(f"{chosen.seed} {number}")
    for load, link in order.sample(cells, len(cells)):
        left = [name for name in wanted if (number, load.name, link, name) not in record]
        order.shuffle(left)
        while left:
            async with cell(load, link, chosen) as here:
                try:
                    while left:
                        name = left.pop()
                        moved = await here.move(number, name, wanted[name], predict=chosen.predict)
                        record.add(moved)
                        told = f"{moved.total_s:.1f} s" if moved.completed else moved.why
                        sys.stderr.write(f"block {number}, {load.name}, {link}, {name}: {told}\n")
                except LimosaError as error:  # another call tries it again
                    sys.stderr.write(f"block {number}, {load.name}, {link}, {name}: not measured: {error.message}\n")


def costs(moves: Sequence[Moved]) -> dict[tuple[str, str], dict[str, list[Moved]]]:
    """By cell and way."""
    found: dict[tuple[str, str], dict[str, list[Moved]]] = {}
    for move in moves:
        found.setdefault((move.load, move.link), {}).setdefault(move.way, []).append(move)
    return found


def regrets(moves: Sequence[Moved]) -> dict[str, dict[tuple[str, str], float]]:
    """By way and cell: how much more it costs than the best fixed choice, 0.1 for a tenth. A cell without blocks of
    both kinds has none."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for at, of_cell in costs(moves).items():
        picked = {way: _cost(each, 0) for way, each in of_cell.items() if way in FIXED}
        known = {way: cost for way, cost in picked.items() if cost is not None}
        best = _cost(of_cell[min(known, key=lambda way: known[way])], 1) if known else None
        for way, each in of_cell.items():
            cost = _cost(each, 1)
            if best and cost is not None:
                found.setdefault(way, {})[at] = cost / best - 1
    return found


def _cost(moves: Sequence[Moved], half: int) -> float | None:
    """The mean of every other block."""
    found = [move.cost_s for move in moves if move.block % 2 == half]
    return statistics.fmean(found) if found else None


def by_way(moves: Sequence[Moved]) -> list[list[str]]:
    """A row a way: how often it completed, how often it broke the limit, its regret and its worst cell."""
    rows = [["", "completed", "broke the limit", "regret", "worst cell"]]
    regret = regrets(moves)
    for way in ways():
        own = [move for move in moves if move.way == way]
        if not own:
            continue
        completed = sum(move.completed for move in own)
        broke = sum(move.broke for move in own)
        of_way, mean, worst = regret.get(way, {}), "", ""
        if of_way:
            mean = f"{math.exp(statistics.fmean(math.log1p(each) for each in of_way.values())) - 1:+.0%}"
            at = max(of_way, key=lambda each: of_way[each])
            worst = f"{', '.join(at)}: {of_way[at]:+.0%}"
        rows.append([way, f"{completed} of {len(own)}", f"{broke} of {completed}" if completed else "", mean, worst])
    return rows


def by_cell(moves: Sequence[Moved]) -> list[list[str]]:
    """A row for each way in each cell: medians with their intervals."""
    rows = [["cell", "way", "completed", "total, s", "outage, s", "cost, s", "asked, MiB/s", "written, MiB/s"]]
    for (load, link), of_cell in costs(moves).items():
        for way, each in sorted(of_cell.items(), key=lambda item: statistics.fmean(m.cost_s for m in item[1])):
            over = [move for move in each if move.completed]
            rows.append(
                [
                    f"{load}, {link}",
                    way,
                    f"{len(over)} of {len(each)}",
                    _shown([move.total_s for move in over], 1),
                    _shown([move.outage_s for move in over], 2),
                    _shown([move.cost_s for move in each], 1),
                    _shown([_mib(move.asked_bytes_per_s) for move in each], 1),
                    _shown([_mib(move.written_bytes_per_s) for move in each], 1),
                ]
            )
    return rows


def _mib(found: float | None) -> float | None:
    return None if found is None else found / MIB


def _shown(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return shown(median(known), "", digits) if known else ""


def held(moves: Sequence[Moved]) -> list[list[str]]:
    """How what was said beforehand held, by way."""
    said = [
        Held(
            time_ns=0,
            way=move.way,
            machine=move.link,
            completes=move.completes,
            completed=move.completed,
            total_s=move.said_total_s,
            real_total_s=move.total_s,
            pause_s=move.said_outage_s,
            real_pause_s=move.outage_s,
        )
        for move in moves
        if move.completes is not None
    ]
    rows = [["", "link", "moves", "completed", "Brier", "total off", "within", "outage off", "within"]]
    for each in scores(said):
        shares = (each.total_error, each.total_within, each.pause_error, each.pause_within)
        told = ["" if share is None else f"{share:.0%}" for share in shares]
        rows.append([each.way, each.machine, str(each.moves), str(each.completed), f"{each.brier:.2f}", *told])
    return rows


async def measured(record: Record, chosen: argparse.Namespace) -> None:
    """The blocks that are asked for, one after the other."""
    for number in range(chosen.blocks):
        await block(number, record, chosen)


def main() -> None:
    """Measure, and tell what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True, help="where the moves are kept")
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--cells", default="", help="only cells with this in their name: 'idle', '1 Gbit/s'")
    parser.add_argument("--ways", default="", help="only these, with '; ' between them")
    parser.add_argument("--predict", action="store_true", help="have each move of a policy foretold, some 12 s each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64"))
    parser.add_argument("--firmware", default="", help="folders, with commas between them")
    chosen = parser.parse_args()
    record = Record(chosen.into)
    with state():
        asyncio.run(measured(record, chosen))
    for rows in (by_cell(record.moves), by_way(record.moves), held(record.moves)):
        print(table(rows), end="\n\n")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
