"""A host that is commanded through a python3 on it: the near end here, and the far end, which is sent over."""
