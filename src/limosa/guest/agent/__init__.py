"""The program that runs inside a guest (C, static) and the client that tells it what to do."""

from __future__ import annotations

from limosa.guest.agent.answers import (
    Clock,
    CpuSample,
    CpuSamples,
    DiskStatus,
    DiskVerdict,
    EchoStatus,
    Hello,
    MemoryStatus,
    MemoryVerdict,
    RegionChecksum,
    TicksStatus,
)
from limosa.guest.agent.client import PORT_NAME, AgentClient
from limosa.guest.agent.executable import PROGRAM, build, source_digest

__all__ = [
    "PORT_NAME",
    "PROGRAM",
    "AgentClient",
    "Clock",
    "CpuSample",
    "CpuSamples",
    "DiskStatus",
    "DiskVerdict",
    "EchoStatus",
    "Hello",
    "MemoryStatus",
    "MemoryVerdict",
    "RegionChecksum",
    "TicksStatus",
    "build",
    "source_digest",
]
