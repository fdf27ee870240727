"""What normalization layers keep, over the epochs of a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Array = npt.NDArray[Any]
History = Mapping[int, Mapping[str, Array]]

_PANELS = {
    "moving_mean": "moving mean",
    "moving_variance": "moving variance",
    "gamma": "gamma",
    "beta": "beta",
}
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_FILL = 0.84  # of a layer's column; the rest is the gap to the next
_COLUMN, _ROW = 0.42, 2.1  # inches
_WIDEST = 40.0  # inches; with more layers the columns become narrower


def statistics(history: History, path: Path) -> None:
    """Draws how the statistics of each layer are distributed, and how that changes.

    A row for each kind, a column for each layer in the order of the network. Within a column the
    epochs go from left to right: all channels lie in the light band, half of them in the dark one,
    and the line is their median. Variances are drawn on a logarithmic scale.

    Args:
        history: for each epoch the values of all channels by names such as `moving_mean/01_stem`,
            the same ones in each.
        path: the picture to write; its suffix names the format.

    Raises:
        ValueError: there is no epoch, or no layer.
    """
    if not history or not any(history.values()):
        raise ValueError("there are no statistics to draw")
    epochs = sorted(history)
    columns = _columns([history[epoch] for epoch in epochs])
    layers = list(columns["moving_mean"])
    width = min(1.2 + max(_COLUMN * len(layers), 4.0), _WIDEST)
    figure = Figure(figsize=(width, _ROW * len(columns) + 1.6), layout="constrained")
    rows = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (kind, found) in zip(rows, columns.items(), strict=True):
        _draw(axes, kind, layers, found)
    size = min(9.0, 9.0 * (width - 1.2) / (0.2 * len(layers)))
    rows[-1].set_xticks(range(len(layers)), [_label(each) for each in layers], rotation=90)
    rows[-1].tick_params(axis="x", labelsize=size, length=0)
    rows[-1].set_xlim(-0.6, len(layers) - 0.4)
    between = f"epochs {epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else f"epoch {epochs[0]}"
    rows[0].set_title(
        f"Layers from input to output, in each column {between}\n"
        "light: all channels, dark: half of them, red: their median",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)


def _columns(epochs: Sequence[Mapping[str, Array]]) -> dict[str, dict[str, list[Array]]]:
    """The values of each epoch by kind and layer."""
    columns: dict[str, dict[str, list[Array]]] = {}
    for name in epochs[0]:
        kind, _, layer = name.partition("/")
        columns.setdefault(kind, {})[layer] = [epoch[name] for epoch in epochs]
    return columns


def _draw(axes: Axes, kind: str, layers: list[str], found: Mapping[str, list[Array]]) -> None:
    for column, layer in enumerate(layers):
        if layer not in found:
            continue
        values = found[layer]
        # A point alone would be no band.
        if len(values) == 1:
            values = values * 2
        across = column + _FILL * np.linspace(-0.5, 0.5, len(values))
        low, lower, middle, upper, high = np.quantile(np.stack(values), _QUANTILES, axis=1)
        axes.fill_between(across, low, high, color="C0", alpha=0.22, linewidth=0)
        axes.fill_between(across, lower, upper, color="C0", alpha=0.45, linewidth=0)
        axes.plot(across, middle, color="C3", linewidth=1.3)
    if kind == "moving_variance" and any(np.any(each) for each in found.values()):
        axes.set_yscale("log")
    axes.set_ylabel(_PANELS[kind])
    axes.grid(axis="y", alpha=0.3)


def _label(layer: str) -> str:
    number, _, name = layer.partition("_")
    return f"{name.replace('normalization', 'norm')} {number}"
