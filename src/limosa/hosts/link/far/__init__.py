"""The far end of a link: what limosa runs on a machine elsewhere. See ``service``.

Standard library only, from Python 3.8 on, and nothing but itself of limosa: its source is sent over (``link.wire``).
"""
