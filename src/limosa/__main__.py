"""``limosa``: signals, and errors turned into one clear sentence, a hint and an exit code."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Exit codes: see ``limosa.errors``; 130 for Ctrl-C, 143 for SIGTERM."""
    from limosa.errors import LimosaError

    as_json = "--json" in sys.argv[1:]
    try:
        from limosa.cli.app import app

        app(prog_name="limosa")
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
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
