"""Statistics of normalization layers over the epochs of a training."""

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
_FILL = 0.84  # share of a column that the bands fill
_COLUMN, _ROW = 0.42, 2.1  # inches
_MAX_WIDTH = 40.0  # inches; more layers make the columns narrower


def statistics(history: History, path: Path) -> None:
    """Draws the distribution of each layer's statistics over the epochs.

    There is a row for each kind of statistic, and a column for each layer in the order of the
    network. Within a column the epochs go from left to right: all channels lie in the light band,
    half of them in the dark one, and the line is their median. Variances have a logarithmic scale.

    Args:
        history: for each epoch the values of all channels by names such as `moving_mean/01_stem`,
            the same names in every epoch.
        path: the picture to write; its suffix names the format.

    Raises:
        ValueError: there are no epochs or no layers.
    """
    if not history or not any(history.values()):
        raise ValueError("there are no statistics to draw")
    epochs = sorted(history)
    columns = _columns([history[epoch] for epoch in epochs])
    layers = list(columns["moving_mean"])
    width = min(1.2 + max(_COLUMN * len(layers), 4.0), _MAX_WIDTH)
    figure = Figure(figsize=(width, _ROW * len(columns) + 1.6), layout="constrained")
    rows = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (kind, by_layer) in zip(rows, columns.items(), strict=True):
        _draw(axes, kind, layers, by_layer)
    size = min(9.0, 9.0 * (width - 1.2) / (0.2 * len(layers)))
    rows[-1].set_xticks(range(len(layers)), [_label(layer) for layer in layers], rotation=90)
    rows[-1].tick_params(axis="x", labelsize=size, length=0)
    rows[-1].set_xlim(-0.6, len(layers) - 0.4)
    span = f"epochs {epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else f"epoch {epochs[0]}"
    rows[0].set_title(
        f"Layers from input to output; each column shows {span}\n"
        "light: all channels, dark: the middle half, red: the median",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)


def _columns(epochs: Sequence[Mapping[str, Array]]) -> dict[str, dict[str, list[Array]]]:
    """Returns the values of each epoch by kind and layer."""
    columns: dict[str, dict[str, list[Array]]] = {}
    for name in epochs[0]:
        kind, _, layer = name.partition("/")
        columns.setdefault(kind, {})[layer] = [epoch[name] for epoch in epochs]
    return columns


def _draw(axes: Axes, kind: str, layers: list[str], by_layer: Mapping[str, list[Array]]) -> None:
    for column, layer in enumerate(layers):
        if layer not in by_layer:
            continue
        values = by_layer[layer]
        # A band needs two points.
        if len(values) == 1:
            values = values * 2
        positions = column + _FILL * np.linspace(-0.5, 0.5, len(values))
        low, lower, middle, upper, high = np.quantile(np.stack(values), _QUANTILES, axis=1)
        axes.fill_between(positions, low, high, color="C0", alpha=0.22, linewidth=0)
        axes.fill_between(positions, lower, upper, color="C0", alpha=0.45, linewidth=0)
        axes.plot(positions, middle, color="C3", linewidth=1.3)
    if kind == "moving_variance" and any(np.any(values) for values in by_layer.values()):
        axes.set_yscale("log")
    axes.set_ylabel(_PANELS[kind])
    axes.grid(axis="y", alpha=0.3)


def _label(layer: str) -> str:
    number, _, name = layer.partition("_")
    return f"{name.replace('normalization', 'norm')} {number}"
