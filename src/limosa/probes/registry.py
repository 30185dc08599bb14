"""Every probe, in the order in which they begin and in which the timeline shows them. They end in the reverse order."""

from __future__ import annotations

from typing import Any

from limosa.probes import cpu_loop, looks, tcp_service, ticks, udp_echo
from limosa.probes.probe import Probe

PROBES: tuple[Probe[Any], ...] = (looks.PROBE, ticks.PROBE, udp_echo.PROBE, tcp_service.PROBE, cpu_loop.PROBE)
