"""QEMU: its command line, its process and its monitor."""
