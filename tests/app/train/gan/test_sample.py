"""Pictures of a trained generator's images, and their errors."""

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm.data import classes
from batchnorm_app.errors import UserError
from batchnorm_app.runs.run import Run
from batchnorm_app.train.gan import sample as module
from batchnorm_app.train.gan.generate import generate, latents
from batchnorm_app.train.gan.sample import mix, sample
from tests.app import small

NAMES = classes("fashion-mnist")


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The images, the names of the rows and the title of every picture."""
    pictures: list[Any] = []

    def keep(images: npt.NDArray[np.uint8], names: list[str], path: Path, title: str = "") -> None:
        pictures.append((images, names, title))
        path.touch()

    monkeypatch.setattr(module, "samples", keep)
    return pictures


def images(run: Run, points: Any, mixtures: Any) -> npt.NDArray[np.int64]:
    model = keras.models.load_model(run.model, compile=False)
    generated = generate(model, points, np.asarray(mixtures, np.float32))
    return generated.astype(np.int64)


def test_a_row_for_each_class_and_a_column_for_each_latent(
    untrained: Run, pictures: list[Any]
) -> None:
    picture = sample(untrained, ["3", " bag", "ANKLE BOOT", "3"], 4, 5, untrained.folder / "a.png")
    assert picture == untrained.folder / "a.png"
    ((grid, names, title),) = pictures
    assert (names, title) == (["Dress", "Bag", "Ankle boot"], "")
    assert grid.shape == (3, 4, 28, 28, 1)
    for row, index in enumerate((3, 8, 9)):
        expected = images(untrained, latents(5, 4, 8), np.eye(10)[[index] * 4])
        assert np.abs(expected - grid[row]).max() <= 1
    for axis in (0, 1):  # all rows differ, and all columns
        assert np.abs(np.diff(grid.astype(int), axis=axis)).mean(axis=(-1, -2, -3)).min() > 1


def test_every_class_by_default(untrained: Run, pictures: list[Any], tmp_path: Path) -> None:
    sample(untrained, None, 1, 0, tmp_path / "a.png")
    sample(untrained, None, 1, 1, tmp_path / "a.png")
    (first, names, _), (second, _, _) = pictures
    assert tuple(names) == NAMES
    assert (first != second).any(axis=(1, 2, 3, 4)).all()


def test_a_column_for_each_mixture_and_a_row_for_each_latent(
    untrained: Run, pictures: list[Any], tmp_path: Path
) -> None:
    mix(untrained, ["Trouser", "8"], 3, 5, tmp_path / "a.png")
    ((grid, names, title),) = pictures
    assert names == [f"latent {number}" for number in range(1, 6)]
    assert title == "Trouser to Bag"
    assert grid.shape == (5, 3, 28, 28, 1)
    for column, share in enumerate((0.0, 0.5, 1.0)):
        mixture = (1 - share) * np.eye(10)[1] + share * np.eye(10)[8]
        expected = images(untrained, latents(5, 5, 8), np.tile(mixture, (5, 1)))
        assert np.abs(expected - grid[:, column]).max() <= 1
    ends, middle = grid[:, [0, 2]].astype(int), grid[:, 1].astype(int)
    assert (ends != middle[:, None]).any(axis=(2, 3, 4)).all()


def test_the_runs_own_picture(untrained: Run, tmp_path: Path, data_dir: Path) -> None:
    """Without the data set's files."""
    shutil.copytree(untrained.folder, tmp_path / "run")
    run = Run(tmp_path / "run")
    config = run.config.read_text()
    run.config.write_text(config.replace(str(data_dir), "/nowhere"))
    assert sample(run, ["0"], 2, 0) == run.folder / "sample.png"
    first = run.sample.read_bytes()
    assert first.startswith(b"\x89PNG")
    mix(run, ["0", "1"], 2, 0)
    assert run.sample.read_bytes() != first


@pytest.mark.parametrize(
    "name, nearest",
    [
        ("bagg", "Bag"),
        ("10", None),
        ("-1", None),
        ("boot", "Ankle boot"),
        ("", None),
        ("1.5", None),
    ],
)
def test_an_unknown_class_gets_a_suggestion_and_all_names(
    untrained: Run, name: str, nearest: str | None
) -> None:
    with pytest.raises(UserError) as caught:
        sample(untrained, ["0", name], 2, 0)
    text = str(caught.value)
    hint = f"; did you mean {nearest!r}?" if nearest else "."
    assert text.startswith(f"{name!r} is not a class{hint} Allowed: ")
    assert text.endswith(f"Allowed: {', '.join(f'{n} {label}' for n, label in enumerate(NAMES))}.")
    with pytest.raises(UserError, match="is not a class"):
        mix(untrained, ["0", name], 2, 0)
    assert not untrained.sample.exists()


@pytest.mark.parametrize("ends", [["0"], ["0", "1", "2"], ["3", "Dress"]])
def test_a_mixture_needs_two_classes(untrained: Run, ends: list[str]) -> None:
    with pytest.raises(UserError, match=f"needs two classes.*received '{':'.join(ends)}'"):
        mix(untrained, ends, 5, 0)


def test_a_mixture_needs_two_images(untrained: Run) -> None:
    with pytest.raises(UserError, match="at least 2 images in a row; received 1"):
        mix(untrained, ["0", "1"], 1, 0)


def test_a_suffix_that_is_not_a_pictures(untrained: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a.txt is not a picture's name"):
        sample(untrained, None, 2, 0, tmp_path / "a.txt")
    with pytest.raises(UserError, match="a.txt is not a picture's name"):
        mix(untrained, ["0", "1"], 2, 0, tmp_path / "a.txt")


def test_runs_of_other_models_generate_nothing(tmp_path: Path, data_dir: Path) -> None:
    run = Run(tmp_path / "run")
    run.create(small.settings(data_dir))
    with pytest.raises(UserError, match="run is a run of lenet, which generates nothing"):
        sample(run, None, 2, 0)
    with pytest.raises(UserError, match="run is a run of lenet, which generates nothing"):
        mix(run, ["0", "1"], 2, 0)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "does not exist: .*`batchnorm train gan --output .* --resume`"),
        (b"garbage", "is damaged"),
        (
            "another",
            r"is not the model of this run: .*\(28, 28, 1\).*expected .*\(8,\), \(10,\)",
        ),
    ],
)
def test_a_model_that_is_not_the_generator(
    tmp_path: Path, data_dir: Path, content: bytes | str | None, message: str
) -> None:
    run = Run(tmp_path / "run")
    run.create(small.gan_settings(data_dir))
    if isinstance(content, bytes):
        run.model.write_bytes(content)
    elif content:
        inputs = keras.Input((28, 28, 1))
        keras.Model(inputs, keras.layers.Flatten()(inputs)).save(run.model)
    with pytest.raises(UserError, match=message):
        sample(run, None, 2, 0)
