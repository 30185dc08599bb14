"""HTML and plots from a run directory, nothing else."""
