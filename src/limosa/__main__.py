"""``limosa``: signals, and errors turned into one clear sentence, a hint and an exit code."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from limosa.errors import LimosaError

FILES = 4096
"""That a command may have open at once; the largest lab that was tried has some hundreds."""


def main() -> None:
    """Run the command line. Exit codes: see ``limosa.errors``; 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.

    The process ends at once then: taking apart all that was imported costs up to 0.1 s a command, and whatever has to
    be tidied up is tidied by who made it.
    """
    # What is imported are objects that stay: looking for garbage among them every 700 takes a tenth of a start.
    gc.set_threshold(50_000)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the launcher holds back an early Ctrl-C
        _have_streams()
        _permit_files()
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
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno != errno.EIO:  # so says a terminal that was closed: nobody reads there any more
                from limosa.cli.printable import UnprintedError

                raise UnprintedError(error.errno, error.strerror) from error
        return code
    except BrokenPipeError:
        return 141
    except EOFError:  # the input ended where the verb had asked a question
        return 1
    except (KeyboardInterrupt, SystemExit):
        raise
    except LimosaError as error:
        return _told(error, as_json)
    except BaseException as error:  # whatever it is, a person gets a sentence
        from limosa.cli.unforeseen import as_error

        return _told(as_error(error), as_json)


def _told(error: LimosaError, as_json: bool) -> int:
    """The exit code of *error*, which a person has been told of."""
    from limosa.cli.face import show_error

    with contextlib.suppress(OSError):  # who reads it may be what is wrong
        show_error(error, as_json)
    return _flushed(error.exit_code)


def _have_streams() -> None:
    """Where the caller closed a standard stream, have it lead nowhere: else the next file that is opened, a record
    perhaps, would have its number, and what is printed would go there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nowhere, nowhere == number)
            setattr(sys, name, os.fdopen(nowhere, "r" if number == 0 else "w"))


def _permit_files() -> None:
    """Have this process and those that it starts open as many files as they may: some shells allow 128, and a person
    who may have more need not be told."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _flushed(code: int) -> int:
    """*code*, with what was printed on its way; a reader that is gone does not matter any more."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return code


if __name__ == "__main__":
    main()
