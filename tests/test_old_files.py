"""Files that a version before the moves wrote load, and give that version's numbers."""

import importlib.util
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import batchnorm
from tests.compare import assert_close
from tests.fixtures.before_move import make
from tests.fixtures.unpack import unpack

# TensorFlow wrote the numbers. Elsewhere sums have other orders, and even there on a processor
# with vectors of another length; a weight or a statistic in the wrong place is off by far more.
TOLERANCE = 1e-6 if keras.backend.backend() == "tensorflow" else 1e-5
Loader = Callable[[Path], Any]


def weights_alone(path: Path) -> Any:
    network = make.model()
    network.load_weights(path)
    return network


LOADERS: dict[str, Loader] = {
    "model.keras": keras.saving.load_model,
    "model.h5": keras.saving.load_model,
    "model.weights.h5": weights_alone,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack("before_move/model", tmp_path_factory.mktemp("before_move"))


@pytest.mark.parametrize("name", LOADERS)
def test_inference_and_the_next_training_step_are_as_before(name: str, folder: Path) -> None:
    network = LOADERS[name](folder / name)
    with np.load(folder / "numbers.npz") as numbers:
        assert_close(make.infer(network), numbers["before"], TOLERANCE)
        make.train_step(network)
        state = make.state(network)
        # Keras 3.15 names a wrapped layer's variables in two ways, by where it was built.
        assert [path.split("/")[-1] for path in state] == [
            path.split("/")[-1] for path in numbers["names"].tolist()
        ]
        assert_close(make.flat(state), numbers["state"], TOLERANCE)
        assert_close(make.infer(network), numbers["after"], 10 * TOLERANCE)


def test_the_comparison_can_fail(folder: Path) -> None:
    """One moving statistic out of hundreds that was not loaded."""
    network = LOADERS["model.keras"](folder / "model.keras")
    network.get_layer("cumulative").moving_mean.assign([0.0, 0.0, 0.0])
    with np.load(folder / "numbers.npz") as numbers, pytest.raises(AssertionError):
        assert_close(make.infer(network), numbers["before"], TOLERANCE)


def test_the_file_names_modules_that_have_moved(folder: Path) -> None:
    """Classes are found by their registered names; a file's `module` does not matter."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        text = archive.read("config.json").decode()
    modules = set(re.findall(r'"module": "(batchnorm[^"]*)"', text))
    assert {"batchnorm.layer", "batchnorm.moving", "batchnorm.renorm"} <= modules
    assert any(importlib.util.find_spec(module) is None for module in modules)
    registered = set(re.findall(r'"registered_name": "(batchnorm>[^"]*)"', text))
    newer = {batchnorm.Pooled}
    classes = {value for value in vars(batchnorm).values() if isinstance(value, type)} - newer
    public = [keras.saving.get_registered_name(value) for value in classes]
    assert registered >= {name for name in public if name.startswith("batchnorm>")}
    assert "batchnorm>OldRenorm" in registered


def test_a_module_of_any_name_loads(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "model.keras"
    with zipfile.ZipFile(folder / "model.keras") as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = re.sub(rb'"module": "batchnorm[^"]*"', b'"module": "nowhere"', content)
                assert json.loads(content) and content.count(b"nowhere") > 20
            target.writestr(name, content)
    renamed, original = (
        make.infer(keras.saving.load_model(path)) for path in (other, folder / other.name)
    )
    assert_close(renamed, original, 0)
