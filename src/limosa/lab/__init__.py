"""The verbs on a lab: up, down, start, stop, migrate, and what they stand on."""

from limosa.lab.lab import GuestStatus, HostStatus, Lab, LabStatus, sweep, take_all_down, take_down

__all__ = ["GuestStatus", "HostStatus", "Lab", "LabStatus", "sweep", "take_all_down", "take_down"]
