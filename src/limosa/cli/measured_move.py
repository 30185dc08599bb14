"""``limosa migrate --measure``; a module of its own, as a plain move waits for none of this."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limosa.experiment.measured_move import MeasuredMove
    from limosa.migration.settings import Settings


def measure_move(guest: str, host: str, lab: str, settings: Settings, as_json: bool) -> None:
    """Move it, and show it as other experiments are; exits as ``limosa migrate`` does when the move failed."""
    from limosa.cli.face import face, run
    from limosa.cli.outcome import show_measured
    from limosa.experiment.measured_move import measured_move
    from limosa.lab import Lab

    async def work() -> MeasuredMove:
        with face(as_json) as events:
            async with Lab.open(lab, events=events) as opened:
                return await measured_move(opened, guest, host, settings)

    done = run(work)
    show_measured(done.result, as_json)
    if done.outcome.failure is not None:
        raise SystemExit(done.outcome.failure.exit_code)
    if not done.result.passed:
        raise SystemExit(1)
