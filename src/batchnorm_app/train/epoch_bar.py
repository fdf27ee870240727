"""Progress of a classifier's training: a bar on a terminal, a line for each epoch elsewhere."""

import keras
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from batchnorm_app.progress import Bar
from batchnorm_app.runs.history import Epoch


class EpochBar(Bar, keras.callbacks.Callback):
    """Shows the epoch, the losses, the accuracies and the time that remains.

    Args:
        console: shows the bar or prints the lines.
        epochs: the history; `on_epoch_end` expects the epoch in it.
        total: number of epochs.
        steps: number of steps in an epoch.
    """

    def __init__(self, console: Console, epochs: list[Epoch], total: int, steps: int) -> None:
        super().__init__(
            console,
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  accuracy {task.fields[accuracy]}"),
            TextColumn("test accuracy {task.fields[test]}"),
            TimeRemainingColumn(),
        )
        self.epochs = epochs
        self.total = total
        self.task = self.bar.add_task(
            "",
            total=total * steps,
            completed=len(epochs) * steps,
            epochs=total,
            epoch=len(epochs) + 1,
            loss="-",
            accuracy="-",
            test=f"{epochs[-1].val_accuracy:.4f}" if epochs else "-",
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Moves the bar by one step."""
        self.bar.update(
            self.task,
            advance=1,
            epoch=len(self.epochs) + 1,
            loss=f"{logs['loss']:.4f}",
            accuracy=f"{logs['accuracy']:.4f}",
        )

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Shows the test accuracy; prints the whole epoch where there is no terminal."""
        last = self.epochs[-1]
        self.bar.update(self.task, test=f"{last.val_accuracy:.4f}")
        self.tell(
            f"epoch {last.epoch:>{len(str(self.total))}}/{self.total}"
            f"  loss {last.loss:.4f}  accuracy {last.accuracy:.4f}"
            f"  test loss {last.val_loss:.4f}  test accuracy {last.val_accuracy:.4f}"
            f"  {last.seconds:.1f} s"
        )
