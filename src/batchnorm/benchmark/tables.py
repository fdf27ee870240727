"""The tables of a benchmark, for the terminal and for pages in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from batchnorm.benchmark.asked import BACKENDS, text

Case = Mapping[str, Any]


class Table(NamedTuple):
    """A title, the names of the columns, and rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> Iterator[str]:
        """The lines of the table under its title."""
        yield from (f"**{self.title}**", "")
        yield f"| {' | '.join(self.columns)} |"
        yield f"|{'---|' * len(self.columns)}"
        for row in self.rows:
            yield f"| {' | '.join(row)} |"


def tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """All tables of a report.

    Args:
        report: what `benchmark.json` holds.
    """
    for (backend, variant), group in _grouped(report["cases"], "backend", "variant"):
        title = f"{BACKENDS[backend]}, {variant}"
        for (mode,), cases in _grouped(group, "mode"):
            yield _times(f"{title}, {mode}", cases)
        for what, key in (("kept for the backward pass", "kept"), ("peak memory", "peak")):
            if any(_has(case, key) for case in group):
                yield _bytes(f"{title}: {what}, in units of x", group, key)
    if report["steps"]:
        yield _steps(report["steps"])


def _grouped(cases: Sequence[Case], *keys: str) -> Iterator[tuple[tuple[Any, ...], list[Case]]]:
    """The cases that have the same values, in the order in which these come."""
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(tuple(case[key] for key in keys), []).append(case)
    yield from groups.items()


def _times(title: str, cases: Sequence[Case]) -> Table:
    names = _names(cases)
    rows = [
        (
            *(text(case["shape"]), case["pass"], number(case["limit"]["quickest"])),
            *(_cell(case, name) for name in names),
        )
        for case in cases
    ]
    title = f"{title}: ms, and how many times as long as batchnorm"
    return Table(title, ("shape", "pass", "limit", *names), rows)


def _cell(case: Case, name: str) -> str:
    found = case["contestants"].get(name)
    if found is None:
        return "-"
    taken, times = found["seconds"], found["times_ours"]["median"]
    half = (taken["upper"] - taken["lower"]) / 2
    cell = f"{number(taken['median'])} ±{number(half)}"
    return cell if name == _names([case])[0] else f"{cell} {times:.2f}x"


def _has(case: Case, key: str) -> bool:
    return any(key in each for each in case["contestants"].values())


def _bytes(title: str, cases: Sequence[Case], key: str) -> Table:
    names = _names(cases)
    # The same in every mode.
    shown = {text(case["shape"]): case for case in cases if _has(case, key)}
    rows = [(shape, *(_units(case, name, key) for name in names)) for shape, case in shown.items()]
    return Table(title, ("shape", *names), rows)


def _units(case: Case, name: str, key: str) -> str:
    found = case["contestants"].get(name, {}).get(key)
    return "-" if found is None else f"{found:.2f}"


def _steps(steps: Sequence[Case]) -> Table:
    names = _names(steps)
    rows = [
        (
            *(BACKENDS[step["backend"]], _model(step), *(_cell(step, name) for name in names)),
            _share(step),
        )
        for step in steps
    ]
    title = "Training steps: ms, and how many times as long as with batchnorm"
    return Table(title, ("backend", "model", *names, "the layers alone: Keras / ours"), rows)


def _model(step: Case) -> str:
    depth = f" {step['depth']}" if step["depth"] else ""
    return f"{step['model']}{depth}, {step['batch']} of {text(step['image_shape'])}"


def _share(step: Case) -> str:
    """How many times as long Keras's layers alone take as ours, from what a step without takes."""
    ours, theirs, none = (
        step["contestants"][name]["seconds"]["median"] for name in ("batchnorm", "Keras", "none")
    )
    return f"{(theirs - none) / (ours - none):.2f}x" if min(ours, theirs) > none else "-"


def _names(cases: Sequence[Case]) -> list[str]:
    return [*dict.fromkeys(name for case in cases for name in case["contestants"])]


def number(seconds: float) -> str:
    """Milliseconds, in three digits.

    Example:
        >>> number(0.2041), number(0.01337), number(0.0000521)
        ('204', '13.4', '0.052')
    """
    ms = 1e3 * seconds
    return (
        f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.{2 if ms >= 1 else 3}f}"
    )
