"""Probes: what measures a guest from outside or inside while something happens to it. Each is one file."""
