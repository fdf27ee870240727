"""Feature maps of each layer for one image."""

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
    """Draws the first channels of the first layers for one image, a column for each layer.

    The first layer is the first with weights, because the layers before it only prepare the image.
    All channels of a layer share a colour scale, shown below them: from blue over white at 0 to red
    if there are negative values, else from black at 0 to yellow.

    Args:
        model: a functional model of images, channels last.
        image: `(H, W, C)`, as the model takes it.
        path: the picture to write; its suffix names the format.
        layers: number of layers to draw, at most those with a height and a width.
        channels: number of channels to draw of each layer.
        title: of the image.

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
    start = next((index for index, layer in enumerate(model.layers) if layer.weights), 0)
    spatial = (layer for layer in model.layers[start:] if len(layer.output.shape) == 4)
    outputs = {layer.name: layer.output for layer in islice(spatial, layers)}
    if not outputs:
        raise ValueError(f"no layer of {model.name} has an output with a height and a width")
    values = keras.Model(model.input, outputs)(image[None], training=False)
    return {name: keras.ops.convert_to_numpy(values[name])[0] for name in outputs}


def _draw_image(axes: Axes, image: Array, title: str) -> None:
    axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray")
    axes.set_title(f"{title}\n{_shape(image)}", fontsize=9)


def _draw_layer(figure: Figure, column: list[Axes], name: str, values: Array) -> None:
    maps = values[..., : len(column)]
    high = float(np.abs(maps).max())
    low, colours = (-high, "RdBu_r") if maps.min() < 0 else (0.0, "inferno")
    for channel in range(maps.shape[-1]):
        axes = column[channel]
        image = axes.imshow(maps[..., channel], vmin=low, vmax=high, cmap=colours)
        axes.set_title(f"{name}\n{_shape(values)}, channel {channel}", fontsize=9)
    figure.colorbar(image, ax=column, location="bottom", shrink=0.9, aspect=12, pad=0.01)


def _shape(values: Array) -> str:
    return "×".join(map(str, values.shape))
