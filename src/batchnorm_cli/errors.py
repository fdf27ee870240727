"""Errors that the user, the data or the disk is at fault for, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console


@contextmanager
def errors_in_words(again: str = "", run: Path | None = None) -> Iterator[None]:
    """Ends the command with one line where the user, the data or the disk is at fault.

    Args:
        again: the command that continues what was interrupted.
        run: the folder of the run that it continues, once it is there.
    """
    try:
        yield
    except KeyboardInterrupt:
        started = run is not None and (run / "config.json").exists()
        _say(f"Interrupted. To continue: {again}" if started else "Interrupted.")
        raise typer.Exit(130) from None
    except ImportError as error:
        _say(f"error: {error}")
        raise typer.Exit(1) from error
    except (OSError, ValueError) as error:
        from batchnorm.data import DataError
        from batchnorm.train.run import RunError

        if isinstance(error, ValueError) and not isinstance(error, (DataError, RunError)):
            raise
        _say(f"error: {error}")
        raise typer.Exit(1) from error


def _say(line: str) -> None:
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)
