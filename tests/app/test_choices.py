"""The names and ranges of options, compared with the code that they stand for."""

import subprocess
import sys

import keras
import pytest

from batchnorm import data
from batchnorm.data.suggest import suggest
from batchnorm.models import resnet
from batchnorm_app import choices
from batchnorm_app.benchmark import request
from batchnorm_app.choices import Range
from batchnorm_app.runs.settings import KINDS
from batchnorm_app.train import classifier, optimizer, start


def test_the_names_are_those_of_the_library_and_the_trainings() -> None:
    assert choices.DATA_SETS == data.NAMES
    assert choices.BLOCKS == resnet.BLOCKS
    assert choices.OPTIMIZERS == tuple(optimizer.OPTIMIZERS)
    assert choices.SCHEDULES == tuple(optimizer.SCHEDULES)
    assert choices.MODELS == tuple(start.TRAININGS) == tuple(KINDS)
    assert choices.CLASSIFIERS == tuple(classifier.RECIPES)
    assert choices.BACKENDS == tuple(request.BACKENDS) == tuple(request.MODES)
    assert choices.BENCHMARK_MODES == request.MODES["tensorflow"]
    for name in choices.PRECISIONS:
        assert keras.dtype_policies.get(name).variable_dtype == "float32"


def test_choices_import_neither_keras_nor_numpy() -> None:
    code = (
        "import batchnorm_app.choices, sys; "
        "sys.exit(bool({'batchnorm', 'keras', 'numpy', 'pydantic', 'typer'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "name", ["cifar", "Cifar-10", "mnist", "fashion", "vgg", "", "ci", "x" * 10**5]
)
def test_suggestions_are_those_of_the_library(name: str) -> None:
    assert choices.suggest(name, choices.DATA_SETS) == suggest(name, data.NAMES)


@pytest.mark.parametrize(
    "bounds, text, inside, outside",
    [
        (Range(ge=2, le=1000), "from 2 to 1,000", (2, 1000), (1, 1001)),
        (Range(gt=0, le=1e30), "above 0, up to 1e+30", (1e-9, 1e30), (0, -1, 2e30)),
        (Range(ge=0, lt=1), "from 0 to below 1", (0, 0.999), (-0.001, 1)),
    ],
)
def test_ranges(
    bounds: Range, text: str, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    assert str(bounds) == text
    assert all(number in bounds for number in inside)
    numbers = (*outside, float("nan"), float("inf"), float("-inf"))
    assert not any(number in bounds for number in numbers)


def test_an_unknown_name_is_refused_with_the_nearest_and_all() -> None:
    assert choices.check_name("adam", choices.OPTIMIZERS) == "adam"
    with pytest.raises(ValueError, match=r"'sgdx' is unknown; did you mean 'sgd'. Allowed: adam, "):
        choices.check_name("sgdx", choices.OPTIMIZERS)
    with pytest.raises(ValueError, match="^'x{98}' is unknown. Allowed: a, b.$"):
        choices.check_name("x" * 98, iter(("a", "b")))
