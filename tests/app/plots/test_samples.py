"""Pictures of samples, checked pixel by pixel."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from batchnorm_app.plots.samples import animation, samples

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "rows, columns, title", [(3, 4, "step 20"), (1, 1, ""), (2, 1, "long" * 9)]
)
def test_every_image_is_in_its_place(
    tmp_path: Path, figures: list[Figure], rows: int, columns: int, title: str, channels: int
) -> None:
    """Each image has four quarters of different colours."""
    random = np.random.default_rng(0)
    quarters = random.integers(0, 256, (rows, columns, 2, 2, channels)).astype(np.uint8)
    images = quarters.repeat(14, axis=2).repeat(14, axis=3)
    names = [f"row {number}" for number in range(rows)]
    samples(images, names, tmp_path / "a.png", title)
    with Image.open(tmp_path / "a.png") as file:
        picture = np.asarray(file.convert("RGB"))
    (axes,) = figures[0].axes
    box = axes.get_position()
    x = (box.x0 + box.width * (np.arange(2 * columns) + 0.5) / (2 * columns)) * picture.shape[1]
    y = (1 - box.y1 + box.height * (np.arange(2 * rows) + 0.5) / (2 * rows)) * picture.shape[0]
    actual = picture[y.astype(int)[:, None], x.astype(int)]
    expected = quarters.swapaxes(1, 2).reshape(2 * rows, 2 * columns, channels)
    assert np.abs(actual.astype(int) - expected).max() <= 1
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert axes.get_title() == title
    assert border(picture).min() == 255  # neither names nor title are cut off


def border(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def test_a_white_line_between_images(tmp_path: Path) -> None:
    black = np.zeros((1, 2, 28, 28, 1), np.uint8)
    samples(black, [""], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        line = np.asarray(file.convert("L"))[file.height // 2]
    dark = np.flatnonzero(np.diff((line < 128).astype(int)))
    assert len(dark) == 4  # two images, each with a left and a right edge


def test_an_animation_shows_every_picture_and_the_last_for_longer(tmp_path: Path) -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    for number, colour in enumerate(colours):
        Image.new("RGB", (20, 10), colour).save(tmp_path / f"{number}.png")
    pictures = [tmp_path / f"{number}.png" for number in range(3)]
    animation(pictures, tmp_path / "a.gif", milliseconds=100)
    with Image.open(tmp_path / "a.gif") as gif:
        assert len(list(ImageSequence.Iterator(gif))) == 3
        assert (gif.size, gif.info["loop"]) == ((20, 10), 0)
        for number, colour in enumerate(colours):
            gif.seek(number)
            assert gif.info["duration"] == (800 if number == 2 else 100)
            frame = np.asarray(gif.convert("RGB")).astype(int)
            assert np.abs(frame - colour).max() <= 8  # a GIF has few colours


def test_an_animation_of_one_picture(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "0.png")
    animation([tmp_path / "0.png"], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        assert len(list(ImageSequence.Iterator(gif))) == 1
