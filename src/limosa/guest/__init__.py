"""Guests: images, the agent inside them, and the consoles."""
