"""The tables of a benchmark, for the terminal and for pages in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from batchnorm_app.benchmark.request import BACKENDS, format_shape

Case = Mapping[str, Any]


class Table(NamedTuple):
    """A title, the names of the columns, and rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> Iterator[str]:
        """Yields the lines of the table under its title."""
        yield from (f"**{self.title}**", "")
        yield f"| {' | '.join(self.columns)} |"
        yield f"|{'---|' * len(self.columns)}"
        for row in self.rows:
            yield f"| {' | '.join(row)} |"


def tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """Yields all tables of a report.

    Args:
        report: the content of `benchmark.json`.
    """
    for (backend, variant), group in _grouped(report["cases"], "backend", "variant"):
        title = f"{BACKENDS[backend]}, {variant}"
        for (mode,), cases in _grouped(group, "mode"):
            yield _times(f"{title}, {mode}", cases)
        for quantity, key in (("kept for the backward pass", "kept"), ("peak memory", "peak")):
            if any(_has(case, key) for case in group):
                yield _bytes(f"{title}: {quantity}, in units of x", group, key)
    if report["steps"]:
        yield _steps(report["steps"])


def _grouped(cases: Sequence[Case], *keys: str) -> Iterator[tuple[tuple[Any, ...], list[Case]]]:
    """Yields the cases that have the same values of some keys, in the order of the cases."""
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(tuple(case[key] for key in keys), []).append(case)
    yield from groups.items()


def _times(title: str, cases: Sequence[Case]) -> Table:
    names = _names(cases)
    rows = [
        (
            *(format_shape(case["shape"]), case["pass"], format_ms(case["limit"]["quickest"])),
            *(_cell(case, name) for name in names),
        )
        for case in cases
    ]
    title = f"{title}: ms, and the ratio to batchnorm"
    return Table(title, ("shape", "pass", "limit", *names), rows)


def _cell(case: Case, name: str) -> str:
    figures = case["contestants"].get(name)
    if figures is None:
        return "-"
    seconds, ratio = figures["seconds"], figures["times_ours"]["median"]
    half_range = (seconds["upper"] - seconds["lower"]) / 2
    cell = f"{format_ms(seconds['median'])} ±{format_ms(half_range)}"
    return cell if name == _names([case])[0] else f"{cell} {ratio:.2f}x"


def _has(case: Case, key: str) -> bool:
    return any(key in figures for figures in case["contestants"].values())


def _bytes(title: str, cases: Sequence[Case], key: str) -> Table:
    names = _names(cases)
    # A row for each shape: the modes of a backend share these figures.
    by_shape = {format_shape(case["shape"]): case for case in cases if _has(case, key)}
    rows = [
        (shape, *(_units(case, name, key) for name in names)) for shape, case in by_shape.items()
    ]
    return Table(title, ("shape", *names), rows)


def _units(case: Case, name: str, key: str) -> str:
    units = case["contestants"].get(name, {}).get(key)
    return "-" if units is None else f"{units:.2f}"


def _steps(steps: Sequence[Case]) -> Table:
    names = _names(steps)
    rows = [
        (
            *(BACKENDS[step["backend"]], _model(step), *(_cell(step, name) for name in names)),
            _layer_ratio(step),
        )
        for step in steps
    ]
    title = "Training steps: ms, and the ratio to batchnorm"
    return Table(title, ("backend", "model", *names, "the layers alone: Keras / ours"), rows)


def _model(step: Case) -> str:
    depth = f" {step['depth']}" if step["depth"] else ""
    return f"{step['model']}{depth}, {step['batch']} of {format_shape(step['image_shape'])}"


def _layer_ratio(step: Case) -> str:
    """Returns the ratio of Keras's layers to ours, less the time of a step without any."""
    ours, keras, none = (
        step["contestants"][name]["seconds"]["median"] for name in ("batchnorm", "Keras", "none")
    )
    return f"{(keras - none) / (ours - none):.2f}x" if min(ours, keras) > none else "-"


def _names(cases: Sequence[Case]) -> list[str]:
    return [*dict.fromkeys(name for case in cases for name in case["contestants"])]


def format_ms(seconds: float) -> str:
    """Returns milliseconds with at most three digits.

    Example:
        >>> format_ms(0.2041), format_ms(0.01337), format_ms(0.0000521)
        ('204', '13.4', '0.052')
    """
    ms = 1e3 * seconds
    decimals = sum(ms < bound for bound in (100, 10, 1))
    return f"{ms:.{decimals}f}"
