"""Machines that one logs in to over SSH, as hosts."""
