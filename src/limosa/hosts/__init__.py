"""Hosts: the port, and one file for each kind."""
