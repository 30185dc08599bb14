"""A guest's screen in a terminal: pictures of it taken through QEMU, text recognised in them, keys sent back.

``camera`` takes pictures, ``glyphs`` reads text in them, ``terminal_lines`` makes terminal output, ``keys`` reads
what is typed, ``keyboard`` presses it, ``viewer`` joins all of them to a terminal. Nothing here knows labs.
"""
