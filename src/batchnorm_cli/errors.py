"""Errors that the user, the data or the disk is at fault for, in one line."""

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from batchnorm_cli.console import say

# Of the texts of errors by which the backends' allocators say so, on processors and graphics cards.
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
    errno.EACCES: "Ask for the right to use it, or name another one.",
    errno.EROFS: "Name a file or folder on a disk that can be written to.",
    errno.ENAMETOOLONG: "Name one with a shorter name.",
}


class Terminated(KeyboardInterrupt):
    """The signal SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def errors_in_words(again: str = "", run: Path | None = None) -> Iterator[None]:
    """Ends the command with one line where the user, the data or the disk is at fault.

    Args:
        again: the command that continues what was interrupted.
        run: the folder of the run that it continues, once it is there.
    """
    try:
        with _sigterm_raises():
            yield
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        word = "Terminated" if terminated else "Interrupted"
        _say(f"{word}.{_continuation(again, run)}")
        raise typer.Exit(128 + (signal.SIGTERM if terminated else signal.SIGINT)) from None
    except (BrokenPipeError, SystemExit):
        # What read the output ended, as `head` does; Rich turns the error into an exit.
        if continuation := _continuation(again, run):
            _say(f"Nobody reads the output any more.{continuation}")
        raise
    except ImportError as error:
        _say(f"error: {error}")
        raise typer.Exit(1) from error
    except Exception as error:
        if _is_out_of_memory(error):
            _say(
                "error: there is not enough memory. Take smaller numbers, of --batch-size, "
                f"--width, --image-size or --depth, say ({' '.join(str(error).split())[:120]})."
            )
            raise typer.Exit(1) from error
        if not isinstance(error, (OSError, ValueError)):
            raise
        from batchnorm.data import DataError
        from batchnorm.train.run import RunError

        if isinstance(error, ValueError) and not isinstance(error, (DataError, RunError)):
            raise
        text = _sentence(error) if isinstance(error, OSError) else str(error)
        _say(f"error: {text.replace('as data_dir', 'with --data-dir')}")
        raise typer.Exit(1) from error


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Raises `Terminated` at a SIGTERM, where the process has not chosen otherwise."""
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


def _continuation(again: str, run: Path | None) -> str:
    """The command that continues a run, if it has begun."""
    return f" To continue: {again}" if run is not None and (run / "config.json").exists() else ""


def _sentence(error: OSError) -> str:
    """An error of the system's with its file and the remedy."""
    if error.strerror is None:
        return str(error)
    remedy = _REMEDIES.get(error.errno or 0, "Name another file or folder.")
    # Without a name it is an open file or stream that fails, mostly because the disk is full.
    place = f"{error.filename} cannot be used: " if error.filename is not None else ""
    return f"{place}{error.strerror}. {remedy}"


def _say(line: str) -> None:
    say(line, stderr=True)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)
