"""Whether an unfinished line asks something of whoever sits before it, or only shows how far a program has come.

Programs leave the cursor at the end of a line in both cases, and both may stand for long. So silence tells nothing:
a line asks when it is worded, or built, as questions are, and shows nothing that only progress has.
"""

from __future__ import annotations

import re

_CHOICE = r"(?:\[[^\]\n]*\]|\([^)\n]*\)|<[^>\n]*>)"
"""What may be answered, or what Enter alone means: ``[none]``, ``(y/n)``, ``<Yes>``."""

_PROGRESS = re.compile(
    r"\d ?%"  # a share
    r"|\b\d+ ?/ ?\d+(?: \w+)?\W*\Z"  # so many of so many, at the end
    r"|(?:\.\.|…)\W*\Z"  # dots that go on, in brackets too
    r"|\b(?:ETA|KiB|MiB|GiB|kB|MB)(?:/s)?\W*\Z"
    r"|[#=*>\u2588-\u258f-]{4,}[ >|\]]*\Z"  # a bar
    r"|\[(?:fetch|download|sync|unpack|extract|copy|install|config|wait|load|check|writ|creat|\w+ing\b)[^\]]*\]?\s*\Z",
    re.IGNORECASE,
)
_ASKING = re.compile(
    # Whatever ends with a question mark, behind which may stand what can be answered.
    rf"\?\s*(?:{_CHOICE}\s*)*[:>]?\s*\Z"
    # A choice that names yes and no, or keys.
    r"|[\[(<](?:y(?:es)?\s?[/|]\s?no?\b[^\])>]*|no?\s?[/|]\s?y(?:es)?)[\])>]\s*[:?>]?\s*\Z"
    # A pager, and who waits for a key.
    r"|--More--|\(END\)\s*\Z|\b(?:press|hit|strike|type)\b.*\b(?:key|enter|return|continue|exit)\b\W*\w*\W*\Z",
    re.IGNORECASE,
)
_WORDED = re.compile(
    r"\b(?:enter|select|choose|specify|type|give|provide|retype|repeat|confirm|continue|proceed|accept|answer"
    r"|which|what|user(?:name)?|login|password|passphrase|passcode|pin|host ?name|prompt|choice|selection|your|new"
    rf")\b.*?(?:{_CHOICE}\s*)*[:>\])]\s*\Z",
    re.IGNORECASE,
)
"""A line that ends as a question may, and has a word of one: “Select keyboard layout [none]”, “Password:”."""

_DEFAULT = re.compile(rf"\w\s*(?:{_CHOICE}\s*)*\[[^\]\s]*\]\s*:\s*\Z")
"""``Timezone [UTC]:`` needs no such word."""

_SHELL = re.compile(r"(?:\S{1,60}|\S{1,40}[:\s]\S{0,60}|~|/)?\s?[#$>]\s?\Z|\([\w-]+\)\s?[#>]?\s?\Z|\b(?:boot|ok): ?\Z")
"""A shell, a boot loader's or an initramfs' own: ``~ #``, ``host:~#``, ``grub>``, ``(initramfs)``."""

_DOING = re.compile(r"\W*(?:\(\d+/\d+\)\s*)?[A-Z]?[a-z]+ing\b")
"""A line that begins with what is being done: “Writing superblocks and filesystem accounting information:”."""


def question(line: str) -> str:
    """*line* without blanks at its end when it asks something; else empty."""
    line = line.rstrip()
    if _ASKING.search(line):
        return line
    if not line or _PROGRESS.search(line):
        return ""
    if _SHELL.match(line):
        return line
    if _DOING.match(line):
        return ""
    return line if _WORDED.search(line) or _DEFAULT.search(line) else ""
