"""Progress of a GAN's training: a bar on a terminal, a line for each interval elsewhere."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from batchnorm_app.progress import Bar


class StepBar(Bar):
    """Shows the step, both losses, the steps per second and the time that remains.

    Args:
        console: shows the bar or prints the lines.
        first: steps already done.
        total: number of steps.
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
            discriminator: loss of the discriminator.
            generator: loss of the generator.
        """
        self.bar.update(
            self.task,
            advance=1,
            discriminator=f"{discriminator:.3f}",
            generator=f"{generator:.3f}",
        )

    def say(self, row: Any, steps: int) -> None:
        """Prints a row of the history where there is no terminal.

        Args:
            row: a `batchnorm_app.train.gan.training.Interval`.
            steps: number of steps in the interval.
        """
        self.tell(
            f"step {row.step:>{len(str(self.total))}}/{self.total}"
            f"  discriminator {row.discriminator_loss:.3f}  generator {row.generator_loss:.3f}"
            f"  {steps / row.seconds:.1f} steps/s"
        )


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("- steps/s" if task.speed is None else f"{task.speed:.1f} steps/s")
