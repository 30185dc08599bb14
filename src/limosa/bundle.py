"""One program made of several modules, for a ``python3`` elsewhere that has only its standard library.

The command line there is short and never changes; the program comes over standard input, so that nothing has to be
installed there and both ends are always of one version. What follows the program on standard input is the program's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

_COMMAND = "exec(eval(open(0,'rb',0,closefd=False).readline()))"
"""One line and few signs, so that any login shell hands it on. Unbuffered, to the line's end."""
_BOOTSTRAP = """
import json, os, sys, types
if sys.version_info < (3, 8):
    sys.exit("python3 is older than 3.8: it is " + sys.version.split()[0])
text = b""
while len(text) < SIZE:
    data = os.read(0, SIZE - len(text))
    if not data:
        sys.exit()
    text += data
for name, source in json.loads(text.decode()):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
module.main()
"""


def program(modules: Sequence[tuple[str, Path]]) -> bytes:
    """What is sent first: a line that reads and runs the rest, and the rest, these modules by their full names.

    They are in the order in which they import each other; the ``main`` of the last one is called.
    """
    packages = sorted({".".join(name.split(".")[:end]) for name, _ in modules for end in range(1, name.count(".") + 1)})
    sources = [*((name, "") for name in packages), *((name, path.read_text()) for name, path in modules)]
    sent = json.dumps(sources).encode()
    return repr(_BOOTSTRAP.replace("SIZE", str(len(sent)))).encode() + b"\n" + sent


def command(python: str = "python3", *arguments: str) -> list[str]:
    """The command line; ``program`` has to be the first thing that it reads.

    Isolated, without site packages, and in UTF-8 whatever the locale, so that words and file names go through as bytes.
    """
    return [python, "-I", "-S", "-X", "utf8", "-c", _COMMAND, *arguments]
