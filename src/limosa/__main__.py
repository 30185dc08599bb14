"""``limosa``: signals, and errors turned into one clear sentence, a hint and an exit code."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line. Exit codes: see ``limosa.errors``; 130 for Ctrl-C, 143 for SIGTERM."""
    from limosa.errors import LimosaError

    words = sys.argv[1:]
    as_json = "--json" in words[: words.index("--")] if "--" in words else "--json" in words
    try:
        from limosa.cli.app import assemble
        from limosa.cli.usage import call

        code = call(assemble(() if "_LIMOSA_COMPLETE" in os.environ else words))
        sys.stdout.flush()
        sys.exit(code)
    except LimosaError as error:
        from limosa.cli.terminal import show_error

        show_error(error, as_json)
        sys.exit(error.exit_code)
    except BaseExceptionGroup as group:
        from limosa.cli.terminal import first_error, show_error

        known = first_error(group)
        if known is None:
            raise
        show_error(known, as_json)
        sys.exit(known.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # What is still buffered goes nowhere, quietly, when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)


if __name__ == "__main__":
    main()
