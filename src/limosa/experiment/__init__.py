"""Measured experiments: a lab, probes and a workload together, kept as a run directory."""
