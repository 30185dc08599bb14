"""The run directory: its format, its store and its statistics."""
