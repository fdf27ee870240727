"""What shows that something long goes on: a bar on a terminal, lines elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn


class Bar:
    """A bar; use it as a context, so that the terminal is set right again whatever happens.

    Args:
        console: where to show it.
        *columns: of the bar.
    """

    def __init__(self, console: Console, *columns: ProgressColumn) -> None:
        super().__init__()  # of a callback of Keras's, for one that is both
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
        """Leaves the bar as it is and frees the terminal."""
        self.bar.stop()

    def tell(self, line: str) -> None:
        """Prints a line, elsewhere than on a terminal."""
        if not self.console.is_terminal:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
