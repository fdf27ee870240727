"""A stage of something long: what is done now, how far it is and how long it took."""

import time
from types import TracebackType
from typing import Any, Self

import keras
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from batchnorm.train.bar import Bar


class Stage(Bar, keras.callbacks.Callback):
    """Shows a bar with the time that remains, or lines where there is no terminal.

    Use it as a context, and as a callback where the stage is a training.

    Args:
        console: where to show it.
        text: what is done.
        total: how often it will advance; `None` for a training, which knows it.
        then: what is done after the training, if it does not end the stage.
    """

    def __init__(
        self, console: Console, text: str, total: int | None = None, then: str = ""
    ) -> None:
        super().__init__(
            console,
            TextColumn("{task.description}", markup=False),  # perhaps with a path
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
        """Leaves the bar as it is and frees the terminal."""
        super().__exit__(kind, error, traceback)
        if kind is None:
            self.tell(f"  {time.perf_counter() - self._start:.1f} s")

    def advance(self) -> None:
        """Moves the bar by one step."""
        self.bar.advance(self.task)

    def on_train_begin(self, logs: object = None) -> None:
        """Learns how many steps there will be."""
        self.bar.update(self.task, total=self.params["epochs"] * self.params["steps"])

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Moves the bar by one step."""
        self.advance()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """Says how well it goes, elsewhere than on a terminal."""
        seconds = time.perf_counter() - self._start
        left = seconds / (epoch + 1) * (self.params["epochs"] - epoch - 1)
        self.tell(
            f"  epoch {epoch + 1}/{self.params['epochs']}  accuracy {logs['accuracy']:.4f}"
            f"  {seconds:.1f} s, about {left:.0f} s left"
        )

    def on_train_end(self, logs: object = None) -> None:
        """Shows what follows."""
        if self.then:
            self.bar.update(self.task, description=self.then)
            self.tell(f"{self.then} ...")
