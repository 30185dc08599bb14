"""Hosts made of Linux namespaces of this machine: the fabric that joins them, and the first process that keeps each."""
