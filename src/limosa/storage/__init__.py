"""Where disks are: what puts files there, and what makes a place the same on all hosts."""
