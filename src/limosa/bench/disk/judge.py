"""What makes a comparison of disks unsound, or needs saying: nothing that others have not."""

from __future__ import annotations

from limosa.bench import soundness
from limosa.bench.soundness import Rule

RULES: tuple[Rule, ...] = (
    *(soundness.different_files, soundness.full_machine, soundness.stolen, soundness.load, soundness.governor),
    *(soundness.clocks, soundness.emulated, soundness.intervals, soundness.incomplete),
)
