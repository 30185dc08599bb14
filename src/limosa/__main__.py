"""``limosa``: signals, and errors turned into one clear sentence, a hint and an exit code."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import sys


def main() -> None:
    """Run the command line. Exit codes: see ``limosa.errors``; 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.

    The process ends at once then: taking apart all that was imported costs up to 0.1 s a command, and whatever has to
    be tidied up is tidied by who made it.
    """
    # What is imported are objects that stay: looking for garbage among them every 700 takes a tenth of a start.
    gc.set_threshold(50_000)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the launcher holds back an early Ctrl-C
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:  # also while what the command needs is still being imported
        code = _flushed(130)
    except SystemExit as ended:  # the interpreter's own end would complain of a closed terminal
        code = _flushed(ended.code if isinstance(ended.code, int) else 1)
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _run(words: list[str]) -> int:
    """The exit code of the command *words*; whatever it printed has been written."""
    from limosa.errors import LimosaError

    as_json = "--json" in words[: words.index("--")] if "--" in words else "--json" in words
    try:
        from limosa.cli.app import call

        code = call(words)
        try:
            sys.stdout.flush()
        except OSError as error:
            if error.errno != errno.EIO:  # so says a terminal that was closed: nobody reads there any more
                raise
        return code
    except LimosaError as error:
        from limosa.cli.face import show_error

        show_error(error, as_json)
        return _flushed(error.exit_code)
    except BaseExceptionGroup as group:
        from limosa.cli.face import first_error, show_error

        known = first_error(group)
        if known is None:
            raise
        show_error(known, as_json)
        return _flushed(known.exit_code)
    except BrokenPipeError:
        return 141
    except EOFError:  # the input ended where the verb had asked a question
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print("limosa: no space left for what is printed\n  hint: write it to another disk", file=sys.stderr)
        return LimosaError.exit_code


def _flushed(code: int) -> int:
    """*code*, with what was printed on its way; a reader that is gone does not matter any more."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return code


if __name__ == "__main__":
    main()
