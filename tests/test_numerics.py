"""The errors that `make bench` prints for this layer, on the backend in use."""

import runpy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import BatchNormalization

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "numerics.py"
SCOPE: dict[str, Any] = runpy.run_path(str(SCRIPT))
SHAPES = SCOPE["SHAPES"]
ROWS = SCOPE["ROWS"]
# Beside 1e8, normalized values reach 90, where float32 has steps of 8e-6.
LIMITS = {name: 1e-4 if "1e8" in name else 1e-5 for name in ROWS}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_errors(shape: tuple[int, ...], name: str) -> None:
    row, dy = SCOPE["rows"](shape)[name], SCOPE["upstream"](shape)
    function = SCOPE["keras_layer"](BatchNormalization, row.dtype, shape)
    x, dy = (keras.ops.convert_to_tensor(array, row.dtype) for array in (row.x, dy))
    y, dx = (
        keras.ops.convert_to_numpy(keras.ops.cast(array, "float32"))
        for array in SCOPE["step"](keras.backend.backend(), function, x, dy)
    )
    errors = {error.table: error.error for error in SCOPE["errors"](name, row, "", y, dx)}
    if row.dtype == "float32":
        assert errors["y"] <= LIMITS[name] and errors["dx"] <= 2e-6
    else:
        best = max(e.error for e in SCOPE["rounding"]() if (e.row, e.table) == (name, "y"))
        assert errors["y"] <= 1.01 * best


def test_the_exact_gradient() -> None:
    exact, x = SCOPE["exact"], np.random.default_rng(2).normal(3.0, 2.0, (2, 3, 2, 1))
    dy, direction = np.random.default_rng(3).normal(size=(2, *x.shape))
    step = 1e-6 * direction
    difference = (dy * (exact(x + step, dy)[0] - exact(x - step, dy)[0])).sum() / 2e-6
    assert abs(difference - (exact(x, dy)[1] * direction).sum()) < 1e-8


def test_the_lines_of_a_table() -> None:
    errors = [SCOPE["Error"]("y", "1 ± 1", "a", value) for value in (1e-7, float("nan"))]
    errors.append(SCOPE["Error"]("y", "1 ± 1", "b", 2.44))
    assert list(SCOPE["table"](errors))[2] == "| 1 ± 1            | NaN | 2.4 |"
    values = (0.0, 6e-12, 2.6e-7, 0.09, 0.91, 2.4, 144.0, 1e8)
    expected = ["0", "6e-12", "3e-7", "9e-2", "0.9", "2.4", "144", "1e8"]
    assert [SCOPE["short"](value) for value in values] == expected
