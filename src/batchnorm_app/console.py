"""Printing for commands: paths and values appear unchanged, not as Rich's markup.

Rich would take `run:100:x` for an emoji and `[bold]` for a style, and a terminal would obey
escape sequences in a name.
"""

import io
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def console(stderr: bool = False) -> Console:
    """Returns a console that prints texts unchanged.

    Args:
        stderr: whether to print to standard error.
    """
    return Console(stderr=stderr, emoji=False, markup=False, highlight=False)


def say(text: str, output: Console | None = None) -> None:
    """Prints a text unchanged and without wrapping its lines.

    Args:
        text: one or more lines.
        output: the console to print to; `None` for standard output.
    """
    (output or console()).print(Text(_printable(text)), soft_wrap=True)


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], bare: bool = False
) -> None:
    """Prints a table on a terminal, and elsewhere a line per row with tabs between cells.

    Args:
        title: a line above the table.
        columns: the names of the columns.
        rows: the cells of each row.
        bare: print no title elsewhere than on a terminal.
    """
    output = console()
    lines = [[_printable(str(cell), newline=False) for cell in row] for row in rows]
    if not output.is_terminal:
        heading = [] if bare else [title]
        for line in [*heading, *("\t".join(cells) for cells in lines)]:
            print(line)  # Rich would replace tabs by spaces
        return
    table = Table(title=Text(_printable(title)))
    for column in columns:
        table.add_column(column, overflow="fold")
    for cells in lines:
        table.add_row(*map(Text, cells))
    output.print(table)


def encode_everything() -> None:
    """Makes the standard streams escape characters that their encoding lacks.

    Even UTF-8 cannot encode every file name.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _printable(text: str, newline: bool = True) -> str:
    """Escapes control characters, which a terminal would obey."""
    return "".join(
        character
        if character.isprintable() or (newline and character == "\n")
        else ascii(character)[1:-1]
        for character in text
    )
