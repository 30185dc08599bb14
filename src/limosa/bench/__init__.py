"""Performance benches, a folder each: what it does (``measure``), what programs print (``parse``), what makes its
figures unsound (``judge``) and what follows from them (``say``). ``benches`` is the table of them.

What they share is beside them: the port on which they measure (``bed``), turns (``rounds``), what is kept (``ledger``,
``repetitions``), medians and ratios (``comparison``), and how a comparison is told (``comparison_page``).
"""
