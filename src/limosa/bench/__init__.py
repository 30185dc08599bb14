"""Performance benches: what is measured (``format``), what may be said of it (``comparison``, ``soundness``).

Everything here is data and pure functions; the benches themselves stand on a lab, in ``limosa.experiment``.
"""
