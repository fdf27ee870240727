"""A GAN's training as it goes: a bar on a terminal, a line now and then elsewhere."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from batchnorm.train.bar import Bar


class ProgressBar(Bar):
    """Shows the step, both losses, the steps a second and the time that remains.

    Args:
        console: where to show them.
        first: how many steps were done already.
        total: how many there will be.
    """

    def __init__(self, console: Console, first: int, total: int) -> None:
        super().__init__(
            console,
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("discriminator {task.fields[discriminator]}"),
            TextColumn("generator {task.fields[generator]}"),
            _Speed(),
            TimeRemainingColumn(),
        )
        self.total = total
        self.task = self.bar.add_task(
            "", total=total, completed=first, discriminator="-", generator="-"
        )

    def advance(self, discriminator: float, generator: float) -> None:
        """Moves the bar by one step.

        Args:
            discriminator: its loss.
            generator: its loss.
        """
        self.bar.update(
            self.task,
            advance=1,
            discriminator=f"{discriminator:.3f}",
            generator=f"{generator:.3f}",
        )

    def say(self, row: Any, steps: int) -> None:
        """Prints a row of the history, elsewhere than on a terminal.

        Args:
            row: a `batchnorm.train.gan.training.Interval`.
            steps: how many it is of.
        """
        self.tell(
            f"step {row.step:>{len(str(self.total))}}/{self.total}"
            f"  discriminator {row.discriminator_loss:.3f}  generator {row.generator_loss:.3f}"
            f"  {steps / row.seconds:.1f} steps/s"
        )


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("- steps/s" if task.speed is None else f"{task.speed:.1f} steps/s")
