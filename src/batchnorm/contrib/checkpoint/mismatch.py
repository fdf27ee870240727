"""The error where a checkpoint does not fit a model: problems, and the names that solve them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

# The entries of `names` of `load_checkpoint`.
Entries = Mapping[str, str | None]
Spelling = Callable[[Entries], str]

_LINES = 13  # problems that the message tells, so that it has less than 20 lines
_OF_A_KIND = 4  # problems of one kind that it tells, if there are too many
_CHARACTERS = 500  # of a line
_ENTRIES = 20  # of `names` that are written out
_WRITTEN = 2000  # characters of them


class Problem(NamedTuple):
    """A problem of one layer or variable.

    Attributes:
        text: the problem, and a change of the model that solves it, in sentences.
        names: entries for `names` of `load_checkpoint` that solve it; empty where none do.
        kind: a key that problems of the same kind share.
    """

    text: str
    names: Entries = {}
    kind: str = ""


class CheckpointMismatch(ValueError):
    """A checkpoint does not fit a model.

    Args:
        prefix: of the checkpoint.
        problems: all of them.
        names: the suggestion for `names` of `load_checkpoint`, which includes the passed entries.
        solved: whether they leave no problem.
        remark: a line about all of it, or "".

    Attributes:
        prefix: as above; so are `problems` and `solved`.
        problems: likewise.
        names: likewise; `load_checkpoint(prefix, model, error.names)` applies it.
        solved: likewise.
    """

    def __init__(
        self,
        prefix: str,
        problems: Sequence[Problem],
        names: Entries,
        solved: bool,
        remark: str = "",
    ) -> None:
        self.prefix, self.problems, self.names = prefix, tuple(problems), dict(names)
        self.solved, self.remark = solved, remark
        super().__init__(self.message())

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Pickles the constructor's arguments."""
        parts = self.prefix, self.problems, self.names, self.solved, self.remark
        return type(self), parts

    def message(self, spelling: Spelling | None = None) -> str:
        """Describes the problems and the suggestion, in at most 20 lines.

        Args:
            spelling: turns the suggested names into a sentence; by default a Python argument.
        """
        lines = [f"{self.prefix} does not fit the model, which stays as it was:"]
        lines += [f"- {_shortened(line)}" for line in _summary(self.problems, bool(self.remark))]
        if self.remark:
            lines.append(self.remark)
        if self.names:
            done = "load it" if self.solved else "solve a part of it"
            lines.append(
                f"These names {done}, if they are right (by shape first, then alike or in order):"
            )
            lines.append((spelling or as_python)(self.names))
        return "\n".join(lines)


def as_python(names: Entries) -> str:
    """Writes the names as the argument of `load_checkpoint`.

    Args:
        names: of an error.

    Example:
        >>> print(as_python({"conv": "net/conv1", "bn/moving_mean": None}))
        names={'conv': 'net/conv1', 'bn/moving_mean': None}
        None leaves what the model has.
    """
    entries = [f"{key!r}: {name!r}" for key, name in names.items()]
    leaves = "\nNone leaves what the model has." if None in names.values() else ""
    if len(entries) <= _ENTRIES and sum(map(len, entries)) <= _WRITTEN:
        return f"names={{{', '.join(entries)}}}{leaves}"
    shown = [_shortened(entry) for entry in entries[: _ENTRIES // 4]]
    return (
        f"{', '.join(shown)} and {len(entries) - len(shown)} more: the error's attribute `names` "
        f"has all, for load_checkpoint(..., names=error.names).{leaves}"
    )


def _summary(problems: Sequence[Problem], few: bool) -> list[str]:
    """Returns a few texts of each kind, and the number of the remaining ones."""
    counts = Counter(problem.kind for problem in problems)
    few = few or len(problems) > _LINES
    most = min(_OF_A_KIND, max(_LINES // len(counts) - 1, 1)) if few and counts else _LINES
    shown: Counter[str] = Counter()
    lines = []
    for kind in counts:
        for problem in (problem for problem in problems if problem.kind == kind):
            if shown[kind] < most:
                lines.append(problem.text)
                shown[kind] += 1
        if rest := counts[kind] - shown[kind]:
            lines.append(f"and {rest} more {'like this' if rest == 1 else 'like these'}")
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], "and others: the error's attribute `problems` has all"]
    return lines


def _shortened(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= _CHARACTERS else f"{line[:_CHARACTERS]}..."
