"""Hosts that are containers of Incus or LXD: one driver for both, over the daemon's REST API."""
