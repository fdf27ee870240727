"""Pictures of what a trained generator makes of classes, and of mixtures of two of them."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from batchnorm import data
from batchnorm.data.suggest import suggest
from batchnorm.plots.samples import samples
from batchnorm.train.gan.generate import generate, latents
from batchnorm.train.run import Run, RunError, atomic
from batchnorm.train.trained import gan_settings, generator, picture_to

ROWS = 5  # of a picture of mixtures, a latent each


def draw(
    run: Run, classes: Sequence[str] | None, count: int, seed: int, picture: Path | None = None
) -> Path:
    """Draws a row of images for each class; a column is made of one latent.

    Args:
        run: a run of a GAN with a `model.keras`.
        classes: numbers or names; `None` for all. One that is named twice is drawn once.
        count: images in a row, at least 1.
        seed: of the latents.
        picture: the file to write; `None` for the run's own.

    Returns:
        The file.

    Raises:
        RunError: the folder is not a run of a GAN, its model is missing or damaged, there is no
            such class, or the picture cannot be written.
    """
    picture = picture_to(picture or run.sample)
    names = data.classes(gan_settings(run).data)
    places = range(len(names)) if classes is None else [_place(each, names) for each in classes]
    rows = list(dict.fromkeys(places))
    model = generator(run)
    labels = np.eye(len(names), dtype=np.float32)[rows].repeat(count, axis=0)
    points = np.tile(latents(seed, count, model.inputs[0].shape[1]), (len(rows), 1))
    _write(model, points, labels, [names[row] for row in rows], picture)
    return picture


def mix(
    run: Run, classes: Sequence[str], count: int, seed: int, picture: Path | None = None
) -> Path:
    """Draws the way from one class to another; a row is made of one latent.

    Column `j` of `count` is generated as the mixture `(1 - t) * first + t * second` of the two
    classes, `t = j / (count - 1)`: its gamma and beta are that mixture of the classes' own.

    Args:
        run: a run of a GAN with a `model.keras`.
        classes: two, by numbers or names.
        count: images in a row, at least 2.
        seed: of the latents.
        picture: the file to write; `None` for the run's own.

    Returns:
        The file.

    Raises:
        RunError: the folder is not a run of a GAN, its model is missing or damaged, these are not
            two classes, there are fewer than 2 images, or the picture cannot be written.
    """
    picture = picture_to(picture or run.sample)
    names = data.classes(gan_settings(run).data)
    ends = [_place(each, names) for each in classes]
    if len(ends) != 2 or ends[0] == ends[1]:
        raise RunError(
            f"a mixture is of two classes, such as 0:3 or {names[0]}:{names[3]}; received "
            f"{':'.join(classes)!r}."
        )
    if count < 2:
        raise RunError(f"from one class to another there are at least 2 images; received {count}.")
    model = generator(run)
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


def _place(wanted: str, names: Sequence[str]) -> int:
    """The place of a class that is given by its number or its name."""
    wanted = wanted.strip()
    lower = [name.lower() for name in names]
    if wanted.lower() in lower:
        return lower.index(wanted.lower())
    if wanted in map(str, range(len(names))):
        return int(wanted)
    allowed = ", ".join(f"{place} {name}" for place, name in enumerate(names))
    raise RunError(f"{wanted!r} is no class{suggest(wanted, names)} Allowed: {allowed}.")
