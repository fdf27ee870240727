"""Times of a benchmark as bars, with the memory limit as a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Case = Mapping[str, Any]

_COLUMN, _ROW = 1.6, 1.8  # inches
_COLORS = {
    "batchnorm": "#c0392b",
    "batchnorm plain": "#e6a79f",
    "Keras": "#34495e",
    "moments+gather": "#7f8c8d",
    "Keras+gain": "#b2babb",
}
_OWN = "#5d8aa8"  # the framework's own


def benchmark(rows: Mapping[str, Sequence[Case]], title: str, path: Path) -> None:
    """Draws times as bars, a row of panels for each backend, a column for each shape.

    In each panel a group of bars for each variant, a bar for each contestant; the line is the
    memory limit.

    Args:
        rows: the cases of each row by its name, as `benchmark.json` has them.
        title: stands above.
        path: the picture to write; its suffix names the format.
    """
    columns = [*dict.fromkeys(tuple(case["shape"]) for cases in rows.values() for case in cases)]
    size = (max(_COLUMN * len(columns), 5.0) + 0.6, _ROW * len(rows) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    handles: dict[str, Artist] = {}
    for (name, cases), line in zip(rows.items(), grid, strict=True):
        line[0].set_ylabel(name, fontsize=9)
        for shape, axes in zip(columns, line, strict=True):
            _panel(axes, [case for case in cases if tuple(case["shape"]) == shape])
            found, labels = axes.get_legend_handles_labels()
            handles |= dict(zip(labels, found, strict=True))
    for shape, axes in zip(columns, grid[0], strict=True):
        axes.set_title("×".join(map(str, shape)), fontsize=9)
    across = max(3, round(size[0] / 1.6))
    figure.legend(
        [*handles.values()],
        [*handles],
        loc="outside lower center",
        ncols=min(len(handles), across),
        fontsize=9,
        frameon=False,
    )
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, cases: Sequence[Case]) -> None:
    """The bars of one backend and shape."""
    place, ticks = 0.0, dict[float, str]()
    highest = max((_ms(each) for c in cases for each in c["contestants"].values()), default=1.0)
    for case in cases:
        first = place
        for name, each in case["contestants"].items():
            value = _ms(each)
            color = _COLORS.get(name, _OWN)
            label = "framework's own" if color == _OWN else name
            axes.bar(place, value, width=0.9, color=color, label=label)
            axes.text(
                place, value + 0.02 * highest, _short(value), ha="center", va="bottom", fontsize=8
            )
            place += 1
        limit = 1e3 * case["limit"]["quickest"]
        ends = (first - 0.5, place - 0.5)
        axes.plot(ends, (limit, limit), color="black", linewidth=1.5, label="memory limit")
        ticks[(first + place - 1) / 2] = case["variant"]
        place += 0.6
    axes.set_ylim(0, 1.15 * highest)
    axes.set_xticks([*ticks], [*ticks.values()], fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _ms(contestant: Mapping[str, Any]) -> float:
    return 1e3 * float(contestant["seconds"]["median"])


def _short(ms: float) -> str:
    digits = sum(ms < bound for bound in (10, 1, 0.1))
    return f"{ms:.{digits}f}".removeprefix("0")
