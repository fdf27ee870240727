"""A stage of something long: what is done now, how far it is and how long it took."""

import time
from types import TracebackType
from typing import Any, Self

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Stage(keras.callbacks.Callback):
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
        super().__init__()
        self.console = console
        self.text = text
        self.then = then
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(text, total=total)

    def __enter__(self) -> Self:
        """Shows the bar."""
        self._start = time.perf_counter()
        self._say(f"{self.text} ...")
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the bar as it is and frees the terminal."""
        self.bar.stop()
        if kind is None:
            self._say(f"  {time.perf_counter() - self._start:.1f} s")

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
        self._say(
            f"  epoch {epoch + 1}/{self.params['epochs']}  accuracy {logs['accuracy']:.4f}"
            f"  {seconds:.1f} s, about {left:.0f} s left"
        )

    def on_train_end(self, logs: object = None) -> None:
        """Shows what follows."""
        if self.then:
            self.bar.update(self.task, description=self.then)
            self._say(f"{self.then} ...")

    def _say(self, line: str) -> None:
        if not self.console.is_terminal:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
