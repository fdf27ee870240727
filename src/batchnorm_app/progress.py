"""Progress bars on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Any, Self

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from batchnorm_app.console import say


class Bar:
    """A progress bar, used as a context manager so that the terminal is always restored.

    Args:
        console: the console to show it on.
        *columns: of the bar.
    """

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        super().__init__()  # for subclasses that are Keras callbacks, too
        self.console = console
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        """Shows the bar."""
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops the bar and restores the terminal."""
        self.bar.stop()

    def tell(self, line: str) -> None:
        """Prints a line, unless the bar is shown on a terminal."""
        if not self.console.is_terminal:
            say(line, self.console)


class Stage(Bar, keras.callbacks.Callback):
    """A progress bar for one stage of a command, with the remaining time.

    It is a context manager, and a Keras callback if the stage is a training.

    Args:
        console: the console to show it on.
        text: description of the stage.
        total: number of steps; `None` for a training, which sets it.
        then: description of the work after the training, if that does not end the stage.
    """

    def __init__(
        self, console: Console, text: str, total: int | None = None, then: str = ""
    ) -> None:
        super().__init__(
            console,
            TextColumn("{task.description}", markup=False),  # it may hold a path
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.text = text
        self.then = then
        self.task = self.bar.add_task(text, total=total)

    def __enter__(self) -> Self:
        """Shows the bar."""
        self._start = time.perf_counter()
        self.tell(f"{self.text} ...")
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops the bar and restores the terminal."""
        super().__exit__(kind, error, traceback)
        if kind is None:
            self.tell(f"  {time.perf_counter() - self._start:.1f} s")

    def advance(self) -> None:
        """Moves the bar by one step."""
        self.bar.advance(self.task)

    def on_train_begin(self, logs: object = None) -> None:
        """Sets the number of steps."""
        self.bar.update(self.task, total=self.params["epochs"] * self.params["steps"])

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Moves the bar by one step."""
        self.advance()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Prints accuracy and remaining time, unless the bar is shown on a terminal."""
        seconds = time.perf_counter() - self._start
        remaining = seconds / (epoch + 1) * (self.params["epochs"] - epoch - 1)
        self.tell(
            f"  epoch {epoch + 1}/{self.params['epochs']}  accuracy {logs['accuracy']:.4f}"
            f"  {seconds:.1f} s, about {remaining:.0f} s left"
        )

    def on_train_end(self, logs: object = None) -> None:
        """Shows the description of the work after the training."""
        if self.then:
            self.bar.update(self.task, description=self.then)
            self.tell(f"{self.then} ...")
