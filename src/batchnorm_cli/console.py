"""Where commands print: texts appear as they are, because paths and values are not Rich's markup.

Rich would take `run:100:x` for an emoji and `[bold]` for a style, and a terminal would obey the
escape sequences in a name.
"""

import io
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def console(stderr: bool = False) -> Console:
    """Returns a console that replaces nothing in what it prints.

    Args:
        stderr: whether to print to standard error.
    """
    return Console(stderr=stderr, emoji=False, markup=False, highlight=False)


def say(text: str, stderr: bool = False) -> None:
    """Prints a text, whose lines are broken where it says so and nowhere else.

    Args:
        text: one or more lines.
        stderr: whether to print to standard error.
    """
    console(stderr).print(_printable(text), soft_wrap=True)


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], bare: bool = False
) -> None:
    """Prints a table; elsewhere than on a terminal, a line for each row, with tabs in it.

    Args:
        title: a line above it.
        columns: the names of the columns.
        rows: the cells of each row.
        bare: whether title and columns are for the terminal alone.
    """
    output = console()
    lines = [[_printable(str(cell), newline=False) for cell in row] for row in rows]
    if not output.is_terminal:
        heading = [] if bare else [title]
        for line in [*heading, *("\t".join(cells) for cells in lines)]:
            print(line)  # Rich would put spaces in the place of tabs
        return
    table = Table(title=Text(_printable(title)))
    for column in columns:
        table.add_column(column, overflow="fold")
    for cells in lines:
        table.add_row(*map(Text, cells))
    output.print(table)


def encode_everything() -> None:
    """Lets the standard streams escape what their encoding lacks, in place of an error.

    Not even UTF-8 encodes all names of files.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _printable(text: str, newline: bool = True) -> str:
    """Escapes the characters that a terminal would act upon."""
    return "".join(
        each if each.isprintable() or (newline and each == "\n") else ascii(each)[1:-1]
        for each in text
    )
