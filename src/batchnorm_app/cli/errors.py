"""Reports the errors that a user can fix in one line, and ends the command."""

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from batchnorm_app.console import console, say

# Fragments of the error texts of the backends' allocators, on CPUs and GPUs.
_OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED",
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "OOM when allocating",
    "bad_alloc",
)

_REMEDIES = {
    errno.ENOSPC: "Make room on the disk, or name a folder on another one.",
    errno.EDQUOT: "Make room within your quota, or name a folder on another disk.",
    errno.EACCES: "Get the permission to use it, or name another one.",
    errno.EROFS: "Name a file or folder on a writable disk.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


class Terminated(KeyboardInterrupt):
    """The exception for SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def report_errors(resume_command: str = "", run: Path | None = None) -> Iterator[None]:
    """Ends the command with one line if the user, the data or the disk is at fault.

    Args:
        resume_command: the command that continues the run.
        run: the folder of the run; the command is shown once the run exists.
    """
    try:
        with _sigterm_raises():
            yield
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        word = "Terminated" if terminated else "Interrupted"
        _say(f"{word}.{_continuation(resume_command, run)}")
        raise typer.Exit(128 + (signal.SIGTERM if terminated else signal.SIGINT)) from None
    except (BrokenPipeError, SystemExit):
        # The reader of the output has ended, as `head` does; Rich turns that error into an exit.
        if continuation := _continuation(resume_command, run):
            _say(f"The output is no longer read.{continuation}")
        raise
    except ImportError as error:
        _say(f"error: {error}")
        raise typer.Exit(1) from error
    except Exception as error:
        if _is_out_of_memory(error):
            _say(
                "error: there is not enough memory. Try a smaller --batch-size, --width, "
                f"--image-size or --depth ({' '.join(str(error).split())[:120]})."
            )
            raise typer.Exit(1) from error
        if not isinstance(error, (OSError, ValueError)):
            raise
        from batchnorm.data import DataError
        from batchnorm_app.errors import UserError

        if isinstance(error, ValueError) and not isinstance(error, (DataError, UserError)):
            raise
        text = _sentence(error) if isinstance(error, OSError) else str(error)
        _say(f"error: {text.replace('as data_dir', 'with --data-dir')}")
        raise typer.Exit(1) from error


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Raises `Terminated` at SIGTERM, unless the process has another handler."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(number: int, frame: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _continuation(command: str, run: Path | None) -> str:
    """Returns the advice to continue a run, if it has begun."""
    return f" To continue: {command}" if run is not None and (run / "config.json").exists() else ""


def _sentence(error: OSError) -> str:
    """Describes an error of the operating system, with its file and the remedy."""
    if error.strerror is None:
        return str(error)
    remedy = _REMEDIES.get(error.errno or 0, "Name another file or folder.")
    # Without a name an open file or stream has failed, mostly because the disk is full.
    place = f"{error.filename} cannot be used: " if error.filename is not None else ""
    return f"{place}{error.strerror}. {remedy}"


def _say(line: str) -> None:
    say(line, console(stderr=True))


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)
