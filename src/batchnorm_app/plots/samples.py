"""Grids of generated images, and their animation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from PIL import Image

_SIDE = 0.45  # inches of an image on the picture
_LETTER = 0.085  # inches of a letter, at most
_MAX_PIXELS = 20_000_000  # of a frame; ten rows of ten images have less than one million


def samples(
    images: npt.NDArray[np.uint8], names: Sequence[str], path: Path, title: str = ""
) -> None:
    """Draws a grid of images with a name for each row.

    Args:
        images: `(rows, columns, H, W, C)`, 0 to 255; C is 1 or 3.
        names: of the rows.
        path: the picture to write; its suffix names the format.
        title: of the picture.
    """
    rows, columns, height, width, _ = images.shape
    grid = _grid(images)
    overhang = max(0, _LETTER * len(title) - _SIDE * columns) / 2  # of the title, at each side
    margin = max(0.1 + _LETTER * max(map(len, names)), 0.05 + overhang)
    top = 0.35 if title else 0.05
    size = (margin + _SIDE * columns + 0.05 + overhang, top + _SIDE * rows * height / width + 0.05)
    figure = Figure(figsize=size)
    box = (margin / size[0], 0.05 / size[1], _SIDE * columns / size[0])
    axes = figure.add_axes((*box, 1 - (top + 0.05) / size[1]))
    axes.imshow(grid, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
    axes.set_yticks((np.arange(rows) + 0.5) * (grid.shape[0] / rows) - 0.5, names, fontsize=9)
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, fontsize=9, pad=4)
    figure.savefig(path, dpi=150)


def animation(pictures: Sequence[Path], path: Path, milliseconds: int = 250) -> None:
    """Writes a GIF of pictures, of which the last is shown longer.

    Args:
        pictures: files of pictures of one size.
        path: the GIF to write.
        milliseconds: duration of a picture.

    Raises:
        ValueError: a picture is damaged, or differs in size from the first.
    """
    frames = [_frame(picture) for picture in pictures]
    for picture, frame in zip(pictures, frames, strict=True):
        if frame.size != frames[0].size:
            raise ValueError(
                f"{picture} has {_size(frame)} pixels, expected {_size(frames[0])} as in "
                f"{pictures[0]}"
            )
    durations = [milliseconds] * (len(frames) - 1) + [8 * milliseconds]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _frame(path: Path) -> Image.Image:
    try:
        if not path.is_file():  # reading a pipe would never end
            raise ValueError("it is not a file")
        with Image.open(path) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise ValueError(f"it declares {_size(picture)} pixels")
            picture.verify()  # checks the checksums, and closes the file
        with Image.open(path) as picture:
            return picture.convert("RGB")
    # Pillow does not document the exceptions of a damaged file; SyntaxError is one of them.
    except Exception as error:
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())})") from error


def _size(picture: Image.Image) -> str:
    return f"{picture.width}x{picture.height}"


def _grid(images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Joins all images to one, with white lines between them."""
    rows, columns, height, width, channels = images.shape
    framed = np.full((rows, columns, height + 1, width + 1, channels), 255, np.uint8)
    framed[:, :, :height, :width] = images
    grid = framed.swapaxes(1, 2).reshape(rows * (height + 1), columns * (width + 1), channels)
    return grid[..., 0] if channels == 1 else grid
