"""Probes measure a guest from outside or inside while something happens to it."""
