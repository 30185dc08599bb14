"""How often each probe measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probing:
    """What measures, and how often; 0 leaves a probe out. More disturbs what is measured; see docs/measuring.md."""

    tick_interval_us: int = 1000
    """Between two datagrams that the guest sends by itself."""
    echo_rate_hz: float = 20.0
    """Requests a second that the client sends by UDP."""
    service_interval_ms: float = 50.0
    """After an answer of the TCP service, until the next request."""
    cpu_interval_ms: int = 50
    """Between two turns of the loop in the guest that tells its processor's speed."""
    progress_interval_ms: int = 20
    """Between two looks at a migration, by query-migrate."""
    cpus_awake: bool = False
    """Keep this machine's CPUs from sleeping meanwhile, where that is permitted."""
