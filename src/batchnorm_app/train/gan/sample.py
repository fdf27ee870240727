"""Pictures of a trained generator's images, of classes and of mixtures of two classes."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from batchnorm import data
from batchnorm_app.choices import suggest
from batchnorm_app.errors import UserError
from batchnorm_app.files import atomic
from batchnorm_app.plots.samples import samples
from batchnorm_app.runs.load import check_image_suffix, gan_settings, load_generator
from batchnorm_app.runs.run import Run
from batchnorm_app.train.gan.generate import generate, latents

ROWS = 5  # of a picture of mixtures, one for each latent


def sample(
    run: Run, classes: Sequence[str] | None, count: int, seed: int, picture: Path | None = None
) -> Path:
    """Draws a row of images for each class, and a column for each latent.

    Args:
        run: a run of a GAN with a `model.keras`.
        classes: numbers or names; `None` for all. Duplicates are drawn once.
        count: images in a row, at least 1.
        seed: of the latents.
        picture: the file to write; `None` for `sample.png` in the run.

    Returns:
        The file.

    Raises:
        UserError: the folder is not a run of a GAN, its model is missing or damaged, a class does
            not exist, or the picture cannot be written.
    """
    picture = check_image_suffix(picture or run.sample)
    names = data.classes(gan_settings(run).data)
    indices = range(len(names)) if classes is None else [_index(c, names) for c in classes]
    rows = list(dict.fromkeys(indices))
    model = load_generator(run)
    labels = np.eye(len(names), dtype=np.float32)[rows].repeat(count, axis=0)
    points = np.tile(latents(seed, count, model.inputs[0].shape[1]), (len(rows), 1))
    _write(model, points, labels, [names[row] for row in rows], picture)
    return picture


def mix(
    run: Run, classes: Sequence[str], count: int, seed: int, picture: Path | None = None
) -> Path:
    """Draws the path from one class to another, and a row for each latent.

    Column `j` of `count` is generated as the mixture `(1 - t) * first + t * second` of the two
    classes, `t = j / (count - 1)`: its gamma and beta are that mixture of the classes' own.

    Args:
        run: a run of a GAN with a `model.keras`.
        classes: two numbers or names.
        count: images in a row, at least 2.
        seed: of the latents.
        picture: the file to write; `None` for `sample.png` in the run.

    Returns:
        The file.

    Raises:
        UserError: the folder is not a run of a GAN, its model is missing or damaged, the classes
            are not two, there are fewer than 2 images, or the picture cannot be written.
    """
    picture = check_image_suffix(picture or run.sample)
    names = data.classes(gan_settings(run).data)
    ends = [_index(name, names) for name in classes]
    if len(ends) != 2 or ends[0] == ends[1]:
        raise UserError(
            f"a mixture needs two classes, such as 0:3 or {names[0]}:{names[3]}; received "
            f"{':'.join(classes)!r}."
        )
    if count < 2:
        raise UserError(f"a mixture needs at least 2 images in a row; received {count}.")
    model = load_generator(run)
    t = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    first, second = np.eye(len(names), dtype=np.float32)[ends]
    labels = np.tile((1 - t) * first + t * second, (ROWS, 1))
    points = latents(seed, ROWS, model.inputs[0].shape[1]).repeat(count, axis=0)
    title = f"{names[ends[0]]} to {names[ends[1]]}"
    _write(model, points, labels, [f"latent {n}" for n in range(1, ROWS + 1)], picture, title)
    return picture


def _write(
    model: keras.Model,
    points: npt.NDArray[np.float32],
    labels: npt.NDArray[np.float32],
    rows: Sequence[str],
    picture: Path,
    title: str = "",
) -> None:
    images = generate(model, points, labels)
    with atomic(picture) as temporary:
        samples(images.reshape(len(rows), -1, *images.shape[1:]), rows, temporary, title)


def _index(text: str, names: Sequence[str]) -> int:
    """Returns the index of a class from its number or its name."""
    text = text.strip()
    lower = [name.lower() for name in names]
    if text.lower() in lower:
        return lower.index(text.lower())
    if text in map(str, range(len(names))):
        return int(text)
    allowed = ", ".join(f"{index} {name}" for index, name in enumerate(names))
    raise UserError(f"{text!r} is not a class{suggest(text, names)} Allowed: {allowed}.")
