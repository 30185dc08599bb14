"""Limosa moves running virtual machines between hosts and says exactly what the move cost.

The names below are what a notebook needs. Each is imported when it is first used, so that ``import limosa`` is free.
"""

from __future__ import annotations

TYPE_CHECKING = False  # checkers take it for true; importing it from typing would cost more than all of this module
if TYPE_CHECKING:
    from typing import Any

    from limosa.errors import LimosaError
    from limosa.events import Events
    from limosa.experiment.calibration import calibrate
    from limosa.experiment.demo import demo
    from limosa.experiment.result import Result, reported
    from limosa.experiment.watch import watch
    from limosa.experiment.workload import Workload
    from limosa.lab.lab import Lab
    from limosa.migration.settings import Settings
    from limosa.probes.pace import Probing
    from limosa.results.samples import read_cpu, read_exchanges, read_progress, read_ticks

__version__ = "0.1.0"

__all__ = [
    "Events",
    "Lab",
    "LimosaError",
    "Probing",
    "Result",
    "Settings",
    "Workload",
    "calibrate",
    "demo",
    "read_cpu",
    "read_exchanges",
    "read_progress",
    "read_ticks",
    "reported",
    "watch",
]

_HOMES = {
    "limosa.errors": ("LimosaError",),
    "limosa.events": ("Events",),
    "limosa.experiment.calibration": ("calibrate",),
    "limosa.experiment.demo": ("demo",),
    "limosa.experiment.result": ("Result", "reported"),
    "limosa.experiment.watch": ("watch",),
    "limosa.experiment.workload": ("Workload",),
    "limosa.lab.lab": ("Lab",),
    "limosa.migration.settings": ("Settings",),
    "limosa.probes.pace": ("Probing",),
    "limosa.results.samples": ("read_cpu", "read_exchanges", "read_progress", "read_ticks"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'limosa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
