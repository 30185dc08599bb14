"""The bench of migrations: CPU, throughput and round trips before, during and after each."""
