"""Limosa moves running virtual machines between hosts and says exactly what the move cost."""

__version__ = "0.1.0"
