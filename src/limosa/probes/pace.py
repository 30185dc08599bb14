"""How often each probe measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probing:
    """What measures, and how often; 0 leaves a probe out. More disturbs what is measured; see docs/measuring.md."""

    tick_interval_us: int = 1000
    echo_rate_hz: float = 20.0
    service_interval_ms: float = 50.0
    cpu_interval_ms: int = 50
    progress_interval_ms: int = 20
    cpus_awake: bool = False
    """Keep this machine's CPUs from sleeping meanwhile, where that is permitted."""
