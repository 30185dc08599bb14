"""The network bench: throughput, loss, jitter and round trips between client and guest, by network card."""
