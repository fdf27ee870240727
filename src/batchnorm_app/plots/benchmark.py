"""A chart of a benchmark: times as bars, the memory limit as a line."""

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
_NATIVE = "#5d8aa8"  # the framework's own layer


def benchmark(rows: Mapping[str, Sequence[Case]], title: str, path: Path) -> None:
    """Draws times as bars, a row of panels for each backend, a column for each shape.

    A panel has a group of bars for each variant, and a bar for each contestant. The line is the
    memory limit.

    Args:
        rows: the cases of `benchmark.json` by the name of their row.
        title: of the chart.
        path: the picture to write; its suffix names the format.
    """
    columns = [*dict.fromkeys(tuple(case["shape"]) for cases in rows.values() for case in cases)]
    size = (max(_COLUMN * len(columns), 5.0) + 0.6, _ROW * len(rows) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    handles: dict[str, Artist] = {}
    for (name, cases), panels in zip(rows.items(), grid, strict=True):
        panels[0].set_ylabel(name, fontsize=9)
        for shape, axes in zip(columns, panels, strict=True):
            _panel(axes, [case for case in cases if tuple(case["shape"]) == shape])
            artists, labels = axes.get_legend_handles_labels()
            handles |= dict(zip(labels, artists, strict=True))
    for shape, axes in zip(columns, grid[0], strict=True):
        axes.set_title("×".join(map(str, shape)), fontsize=9)
    legend_columns = max(3, round(size[0] / 1.6))
    figure.legend(
        [*handles.values()],
        [*handles],
        loc="outside lower center",
        ncols=min(len(handles), legend_columns),
        fontsize=9,
        frameon=False,
    )
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, cases: Sequence[Case]) -> None:
    """Draws the bars of one backend and shape."""
    position, ticks = 0.0, dict[float, str]()
    times = [_ms(figures) for case in cases for figures in case["contestants"].values()]
    highest = max(times, default=1.0)
    for case in cases:
        first = position
        for name, figures in case["contestants"].items():
            value = _ms(figures)
            color = _COLORS.get(name, _NATIVE)
            label = "framework's own layer" if color == _NATIVE else name
            axes.bar(position, value, width=0.9, color=color, label=label)
            top = value + 0.02 * highest
            axes.text(position, top, _short(value), ha="center", va="bottom", fontsize=8)
            position += 1
        limit = 1e3 * case["limit"]["quickest"]
        ends = (first - 0.5, position - 0.5)
        axes.plot(ends, (limit, limit), color="black", linewidth=1.5, label="memory limit")
        ticks[(first + position - 1) / 2] = case["variant"]
        position += 0.6
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
