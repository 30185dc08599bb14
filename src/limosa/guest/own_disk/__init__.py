"""Guests whose disk holds a system of its own, which limosa did not build: an entry of the image library, a file of the
user's, or what a URL leads to.

``origin`` finds that disk, ``storage_files`` puts it onto the storage, ``access`` says how one logs in, ``leases``
gives an address to whoever asks for one.
"""
