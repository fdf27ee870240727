"""What each layer makes of one image."""

from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Array = npt.NDArray[Any]

_PANEL = 1.75  # inches; a title such as normalization_1 just fits


def feature_maps(
    model: keras.Model,
    image: Array,
    path: Path,
    layers: int = 8,
    channels: int = 4,
    title: str = "image",
) -> None:
    """Draws the first channels of the first layers for one image, a column to each layer.

    The layers are counted from the first that has weights: those before it only prepare the image.
    All channels of a layer share a colour scale, shown below them. Where there are negative values
    it runs from blue over white, which is 0, to red; else from black, which is 0, to yellow.

    Args:
        model: a functional model of images, channels last.
        image: `(H, W, C)`, as the model takes it.
        path: the picture to write; its suffix names the format.
        layers: how many layers to draw; fewer where fewer have a height and a width.
        channels: how many channels to draw of each.
        title: stands above the image.

    Raises:
        ValueError: no layer of the model has a height and a width.
    """
    outputs = _outputs(model, image, layers)
    columns = 1 + len(outputs)
    figure = Figure(figsize=(_PANEL * columns, (_PANEL + 0.55) * channels), layout="constrained")
    grid = figure.subplots(channels, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    _draw_image(grid[0, 0], image, title)
    for column, (name, values) in zip(grid.T[1:], outputs.items(), strict=True):
        _draw_layer(figure, list(column), name, values)
    figure.savefig(path, dpi=110)


def _outputs(model: keras.Model, image: Array, layers: int) -> dict[str, Array]:
    weighted = next((i for i, layer in enumerate(model.layers) if layer.weights), 0)
    spatial = (layer for layer in model.layers[weighted:] if len(layer.output.shape) == 4)
    chosen = {layer.name: layer.output for layer in islice(spatial, layers)}
    if not chosen:
        raise ValueError(f"no layer of {model.name} has an output with a height and a width")
    values = keras.Model(model.input, chosen)(image[None], training=False)
    return {name: keras.ops.convert_to_numpy(values[name])[0] for name in chosen}


def _draw_image(axes: Axes, image: Array, title: str) -> None:
    axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray")
    axes.set_title(f"{title}\n{_shape(image)}", fontsize=9)


def _draw_layer(figure: Figure, column: list[Axes], name: str, values: Array) -> None:
    shown = values[..., : len(column)]
    high = float(np.abs(shown).max())
    low, colours = (-high, "RdBu_r") if shown.min() < 0 else (0.0, "inferno")
    for channel in range(shown.shape[-1]):
        axes = column[channel]
        drawn = axes.imshow(shown[..., channel], vmin=low, vmax=high, cmap=colours)
        axes.set_title(f"{name}\n{_shape(values)}, channel {channel}", fontsize=9)
    figure.colorbar(drawn, ax=column, location="bottom", shrink=0.9, aspect=12, pad=0.01)


def _shape(values: Array) -> str:
    return "×".join(map(str, values.shape))
