"""A GAN's training as it goes: a bar on a terminal, a line now and then elsewhere."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class ProgressBar:
    """Shows the step, both losses, the steps a second and the time that remains.

    Use it as a context, so that the terminal is set right again whatever happens.

    Args:
        console: where to show them.
        first: how many steps were done already.
        total: how many there will be.
    """

    def __init__(self, console: Console, first: int, total: int) -> None:
        self.console = console
        self.total = total
        self.bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn("discriminator {task.fields[discriminator]}"),
            TextColumn("generator {task.fields[generator]}"),
            _Speed(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(
            "", total=total, completed=first, discriminator="-", generator="-"
        )

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
        """Leaves the bar as it is and frees the terminal."""
        self.bar.stop()

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
        if not self.console.is_terminal:
            self.console.print(
                f"step {row.step:>{len(str(self.total))}}/{self.total}"
                f"  discriminator {row.discriminator_loss:.3f}  generator {row.generator_loss:.3f}"
                f"  {steps / row.seconds:.1f} steps/s",
                highlight=False,
                soft_wrap=True,
            )


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("- steps/s" if task.speed is None else f"{task.speed:.1f} steps/s")
