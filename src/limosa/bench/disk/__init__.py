"""The disk bench: random and sequential I/O of a guest, by the bus of its disk and the host's cache."""
