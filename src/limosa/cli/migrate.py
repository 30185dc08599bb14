"""``limosa migrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from limosa.cli.options import GuestArgument, HostArgument, JsonOption, LabOption, seconds, size_rate

if TYPE_CHECKING:
    from limosa.migration.engine import Outcome


def migrate(
    guest: GuestArgument,
    host: HostArgument,
    lab: LabOption = "",
    max_bandwidth: Annotated[
        str, typer.Option(help="Upper limit, as '100 MiB/s'; without it unlimited.", show_default=False)
    ] = "",
    downtime_limit: Annotated[str, typer.Option(help="The pause that QEMU may plan for.")] = "300 ms",
    timeout: Annotated[
        str, typer.Option(help="Give up after this, as '30 s'; the guest stays on the source.", show_default=False)
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Move a running guest to another host. Ctrl-C cancels and leaves it running on the source."""
    from limosa.cli.terminal import face, run, show_result
    from limosa.lab import Lab
    from limosa.migration.settings import Settings

    settings = Settings(
        max_bandwidth_bytes_per_s=size_rate(max_bandwidth, "--max-bandwidth"),
        downtime_limit_ms=round((seconds(downtime_limit, "--downtime-limit") or 0) * 1000),
        timeout_s=seconds(timeout, "--timeout"),
    )

    async def work() -> Outcome:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await opened.migrate(guest, host, settings)

    moved = run(work)
    pause_ms = None if moved.stop_ns is None or moved.resume_ns is None else (moved.resume_ns - moved.stop_ns) / 1e6
    if as_json:
        show_result(
            {
                "guest": guest,
                "source": moved.source,
                "target": moved.target,
                "total_ms": moved.info.total_time,
                "qemu_downtime_ms": moved.info.downtime,
                "stop_resume_ms": pause_ms,
                "transferred_bytes": moved.info.ram.transferred,
                "started_ns": moved.started_ns,
                "ended_ns": moved.ended_ns,
                "phases": moved.phases,
            }
        )
        return
    from limosa.units import format_bytes

    pause = "" if pause_ms is None else f", stopped to running {pause_ms:.0f} ms"
    print(
        f"{guest} runs on {moved.target}: {moved.info.total_time} ms, {format_bytes(moved.info.ram.transferred)} sent, "
        f"QEMU's downtime {moved.info.downtime} ms{pause}"
    )
