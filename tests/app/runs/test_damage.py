"""Damaged files of a run: the same result, or one line with the file's name and the remedy."""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from batchnorm_app.errors import UserError
from batchnorm_app.files import write_json
from batchnorm_app.plots.samples import samples
from batchnorm_app.runs import checkpoint
from batchnorm_app.runs.history import Epoch
from batchnorm_app.runs.keras_file import load_model
from batchnorm_app.runs.run import Run
from batchnorm_app.train import recorder, results
from batchnorm_app.train.gan import training
from batchnorm_app.train.gan.training import Interval
from batchnorm_app.train.loop import _compile
from batchnorm_app.train.tensorboard import Events
from tests.app import small
from tests.app.runs import damage

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="files are read alike on every backend"
)
FLIPS = 12
Read = Callable[[Run], Any]


@pytest.fixture(scope="module")
def model() -> keras.Model:
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(3, 3, name="convolution")(inputs)
    x = keras.layers.BatchNormalization(name="normalization")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    small_model = keras.Model(inputs, keras.layers.Dense(10, name="logits")(x))
    _compile(small_model, keras.optimizers.SGD(0.1, momentum=0.9))
    return small_model


@pytest.fixture(scope="module")
def complete_run(
    tmp_path_factory: pytest.TempPathFactory, data_dir: Path, model: keras.Model
) -> Run:
    """The files of a run of a small model, none of which a training wrote; not to be changed."""
    run = Run(tmp_path_factory.mktemp("damage") / "run")
    run.create(small.settings(data_dir))
    rows = [Epoch(n, 0.1, 0.5, 0.5, 0.5, 0.5, 1.0) for n in (1, 2)]
    checkpoint.save(run.checkpoint, checkpoint.values(_variables(model), "the start"), rows)
    model.save(run.model)
    run.statistics.mkdir()
    for epoch in (1, 2):
        np.savez(run.epoch_statistics(epoch), **recorder.values_by_layer(model))
    numbers = dict.fromkeys(results._ROWS, 0.5) | {"epochs": 3, "seconds": 1.5}
    write_json(run.results, numbers)
    run.frames.mkdir()
    for step in (1, 2):
        samples(np.zeros((1, 1, 28, 28, 1), np.uint8), ["a"], run.frame(step))
    return run


def _variables(model: keras.Model) -> list[keras.Variable]:
    return checkpoint.variables_of(model)


def _read_checkpoint(model: keras.Model, run: Run) -> Any:
    variables = _variables(model)
    for variable in variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))
    history = checkpoint.restore(run.checkpoint, variables, Epoch, total=3)
    return history, [keras.ops.convert_to_numpy(variable).tobytes() for variable in variables]


def _read_model(run: Run) -> Any:
    model = load_model(run.model, "delete it")
    weights = [keras.ops.convert_to_numpy(variable).tobytes() for variable in model.variables]
    return str(model.get_config()), weights


def _read_statistics(run: Run) -> Any:
    return {
        epoch: {name: array.tobytes() for name, array in values.items()}
        for epoch, values in recorder.read_history(run).items()
    }


def _shown(run: Run) -> str:
    console = Console(file=io.StringIO(), width=100)
    results.show(run, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def _animated(run: Run) -> bytes:
    training._animate(run, [Interval(n, 0, 0, 0, 1) for n in (1, 2)])
    Events(run.tensorboard).picture("samples", 2, "samples", run.frame(2))
    return run.animation.read_bytes()


READERS: dict[str, tuple[str, Read]] = {
    "config": ("config.json", Run.settings),
    "results": ("results.json", _shown),
    "statistics": ("statistics/00002.npz", _read_statistics),
    "model": ("model.keras", _read_model),
    "frame": ("frames/0000002.png", _animated),
}
OWN: dict[str, Callable[[], Iterator[tuple[str, damage.Damage]]]] = {
    "config": damage.settings,
    "results": lambda: damage.numbers("test_accuracy", "gap", "epochs", "seconds"),
    "statistics": damage.arrays,
    "model": damage.models,
    "frame": lambda: iter(()),
}


def check(run: Run, file: str, read: Read, damages: Iterator[tuple[str, damage.Damage]]) -> int:
    """Tries all damages of a file; returns how many of them were told."""
    expected, wrong, told = read(run), [], 0
    path = run.folder / file
    content = path.read_bytes()
    for name, change in damages:
        change(path)
        try:
            # Of a text, a flipped bit may make another possible value, which no reader can tell.
            possible = file.endswith(".json") and name.startswith("bit")
            if read(run) != expected and not possible:
                wrong.append(f"{name}: accepted")
        except UserError as error:
            told += 1
            if not damage.is_told(str(error), path):
                wrong.append(f"{name}: {error}")
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__} {error}")
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert not wrong, "\n".join(wrong)
    return told


@pytest.fixture
def run(complete_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(complete_run.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.mark.parametrize("kind", READERS)
def test_damages_of_every_file(run: Run, kind: str) -> None:
    file, read = READERS[kind]
    assert check(run, file, read, damage.everywhere(FLIPS)) > 10
    check(run, file, read, OWN[kind]())


def test_damages_of_a_checkpoint(run: Run, model: keras.Model) -> None:
    def read(run: Run) -> Any:
        return _read_checkpoint(model, run)

    assert check(run, "checkpoint.npz", read, damage.everywhere(FLIPS)) > 10
    assert check(run, "checkpoint.npz", read, damage.arrays()) > 15
    histories = [*damage.history()]
    assert check(run, "checkpoint.npz", read, iter(histories)) == len(histories)


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_many_flipped_bits(run: Run, kind: str) -> None:
    file, read = READERS[kind]
    check(run, file, read, damage.everywhere(2000))


@pytest.mark.parametrize(
    "name", ["00001 (copy).npz", "00001-old.npz", "notes.npz", "000003.npz", ".00003.part-9.npz"]
)
def test_other_files_beside_the_statistics_are_left_out(run: Run, name: str) -> None:
    (run.statistics / name).write_bytes(b"mine")
    assert [*_read_statistics(run)] == [1, 2]
