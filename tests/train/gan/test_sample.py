"""What is drawn of a trained generator, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm.data import classes
from batchnorm.train.gan import sample
from batchnorm.train.gan.generate import generate, latents
from batchnorm.train.gan.sample import draw, mix
from batchnorm.train.run import Run, RunError
from tests.train import small

NAMES = classes("fashion-mnist")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Images, names of rows and title of every picture."""
    pictures: list[Any] = []

    def keep(images: npt.NDArray[np.uint8], names: list[str], path: Path, title: str = "") -> None:
        pictures.append((images, names, title))
        path.touch()

    monkeypatch.setattr(sample, "samples", keep)
    return pictures


def images(run: Run, points: Any, mixtures: Any) -> npt.NDArray[np.int64]:
    model = keras.models.load_model(run.model, compile=False)
    made = generate(model, points, np.asarray(mixtures, np.float32))
    return made.astype(np.int64)


def test_a_row_a_class_and_a_column_a_latent(untrained: Run, drawn: list[Any]) -> None:
    found = draw(untrained, ["3", " bag", "ANKLE BOOT", "3"], 4, 5, untrained.folder / "a.png")
    assert found == untrained.folder / "a.png"
    ((pictures, names, title),) = drawn
    assert (names, title) == (["Dress", "Bag", "Ankle boot"], "")
    assert pictures.shape == (3, 4, 28, 28, 1)
    for row, place in enumerate((3, 8, 9)):
        expected = images(untrained, latents(5, 4, 8), np.eye(10)[[place] * 4])
        assert np.abs(expected - pictures[row]).max() <= 1
    for axis in (0, 1):  # neither rows nor columns are all alike
        assert np.abs(np.diff(pictures.astype(int), axis=axis)).mean(axis=(-1, -2, -3)).min() > 1


def test_every_class_by_default(untrained: Run, drawn: list[Any], tmp_path: Path) -> None:
    draw(untrained, None, 1, 0, tmp_path / "a.png")
    draw(untrained, None, 1, 1, tmp_path / "a.png")
    (first, names, _), (second, _, _) = drawn
    assert tuple(names) == NAMES
    assert (first != second).any(axis=(1, 2, 3, 4)).all()


def test_a_mixture_a_column_and_a_latent_a_row(
    untrained: Run, drawn: list[Any], tmp_path: Path
) -> None:
    mix(untrained, ["Trouser", "8"], 3, 5, tmp_path / "a.png")
    ((pictures, names, title),) = drawn
    assert names == [f"latent {number}" for number in range(1, 6)]
    assert title == "Trouser to Bag"
    assert pictures.shape == (5, 3, 28, 28, 1)
    for column, share in enumerate((0.0, 0.5, 1.0)):
        mixture = (1 - share) * np.eye(10)[1] + share * np.eye(10)[8]
        expected = images(untrained, latents(5, 5, 8), np.tile(mixture, (5, 1)))
        assert np.abs(expected - pictures[:, column]).max() <= 1
    ends, middle = pictures[:, [0, 2]].astype(int), pictures[:, 1].astype(int)
    assert (ends != middle[:, None]).any(axis=(2, 3, 4)).all()


def test_the_runs_own_picture(untrained: Run, tmp_path: Path, data_dir: Path) -> None:
    """With neither the images nor a backend of one's own."""
    shutil.copytree(untrained.folder, tmp_path / "run")
    run = Run(tmp_path / "run")
    config = run.config.read_text()
    run.config.write_text(config.replace(str(data_dir), "/nowhere"))
    assert draw(run, ["0"], 2, 0) == run.folder / "sample.png"
    first = run.sample.read_bytes()
    assert first.startswith(b"\x89PNG")
    mix(run, ["0", "1"], 2, 0)
    assert run.sample.read_bytes() != first


@pytest.mark.parametrize(
    "wanted, nearest",
    [
        ("bagg", "Bag"),
        ("10", None),
        ("-1", None),
        ("boot", "Ankle boot"),
        ("", None),
        ("1.5", None),
    ],
)
def test_an_unknown_class_gets_the_nearest_and_all(
    untrained: Run, wanted: str, nearest: str | None
) -> None:
    with pytest.raises(RunError) as caught:
        draw(untrained, ["0", wanted], 2, 0)
    text = str(caught.value)
    hint = f"; did you mean {nearest!r}?" if nearest else "."
    assert text.startswith(f"{wanted!r} is no class{hint} Allowed: ")
    assert text.endswith(f"Allowed: {', '.join(f'{n} {name}' for n, name in enumerate(NAMES))}.")
    with pytest.raises(RunError, match="is no class"):
        mix(untrained, ["0", wanted], 2, 0)
    assert not untrained.sample.exists()


@pytest.mark.parametrize("ends", [["0"], ["0", "1", "2"], ["3", "Dress"]])
def test_a_mixture_is_of_two(untrained: Run, ends: list[str]) -> None:
    with pytest.raises(RunError, match=f"of two classes.*received '{':'.join(ends)}'"):
        mix(untrained, ends, 5, 0)


def test_a_mixture_has_two_ends(untrained: Run) -> None:
    with pytest.raises(RunError, match="at least 2 images; received 1"):
        mix(untrained, ["0", "1"], 1, 0)


def test_a_name_that_is_no_pictures(untrained: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a.txt is no picture's name"):
        draw(untrained, None, 2, 0, tmp_path / "a.txt")
    with pytest.raises(RunError, match="a.txt is no picture's name"):
        mix(untrained, ["0", "1"], 2, 0, tmp_path / "a.txt")


def test_runs_of_other_models_generate_nothing(tmp_path: Path, data_dir: Path) -> None:
    run = Run(tmp_path / "run")
    run.create(small.settings(data_dir))
    with pytest.raises(RunError, match="run is a run of lenet, which generates nothing"):
        draw(run, None, 2, 0)
    with pytest.raises(RunError, match="run is a run of lenet, which generates nothing"):
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
def test_a_model_that_is_no_generator(
    tmp_path: Path, data_dir: Path, content: bytes | str | None, message: str
) -> None:
    run = Run(tmp_path / "run")
    run.create(small.gan_settings(data_dir))
    if isinstance(content, bytes):
        run.model.write_bytes(content)
    elif content:
        inputs = keras.Input((28, 28, 1))
        keras.Model(inputs, keras.layers.Flatten()(inputs)).save(run.model)
    with pytest.raises(RunError, match=message):
        draw(run, None, 2, 0)
