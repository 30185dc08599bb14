"""The CPU bench: the same prime search on the host, in a guest with KVM and in a guest without."""
