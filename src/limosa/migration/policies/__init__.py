"""Policies: how each system steers a migration under way. A file a system, a row for each of its variants; all of it
pure. ``policy`` says what one is, ``registry`` lists them."""
