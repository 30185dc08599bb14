"""What a move will come to, before it begins: how fast the guest dirties its memory, and what follows from that."""
