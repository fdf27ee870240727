"""Errors of batch normalization against float64: this layer, Keras's, flax.nnx's and PyTorch's.

    python experiments/numerics.py

Prints two tables for one training step with epsilon 1e-3, in float32 unless a row names another
dtype: the largest error of y, and of dx relative to its channel's largest value, on the worst of
several shapes (`SHAPES`). y64 and dx64 are computed by NumPy in float64 from the same inputs;
"rounding" is their error when rounded to the inputs' dtype, "batchnorm" the worst backend, "nnx
two-pass" flax.nnx with `use_fast_variance=False`.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import product
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Few channels, many channels, one channel, and far more rows than channels.
SHAPES = ((32, 16, 16, 8), (64, 7, 7, 64), (16, 15, 17, 1), (4096, 40))
EPSILON = 1e-3
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
ROWS = (
    *(
        "0 ± 1",
        "0 ± 1, after relu",
        "1e2 ± 1",
        "1e4 ± 1",
        "1e6 ± 1",
        "-123456.7 ± 1",
        "1 ± 1e-3",
        "1 ± 1e-6",
    ),
    *("0 ± 1e-6", "4096.1 ± 0", "1e6 ± 0", "0 ± 1, one 1e8"),
    *("3e4 ± 1e3, float16", "1e4 ± 1e2, bfloat16"),
)

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Tensor = Any
Function = Callable[[Tensor], Tensor]


class Row(NamedTuple):
    """An input in float64, whose values are exact in the dtype of the layer's input."""

    x: Array
    dtype: str


class Error(NamedTuple):
    """A cell of the table "y" or "dx"."""

    table: str
    row: str
    column: str
    error: float


def rows(shape: Shape) -> dict[str, Row]:
    """Returns the rows of the tables, for inputs of a shape."""
    normal = np.random.default_rng(0).normal(size=shape)
    inputs = {}
    for name in ROWS:
        moments, _, note = name.partition(", ")
        mean, deviation = map(float, moments.split(" ± "))
        x = normal * deviation + mean
        if note == "after relu":
            x = np.maximum(x, 0)
        if note == "one 1e8":
            x.reshape(-1, shape[-1])[1911] = 1e8  # in every channel
        dtype = note if note.endswith("float16") else "float32"
        inputs[name] = Row(round_to(x, dtype), dtype)
    return inputs


def round_to(values: Array, dtype: str) -> Array:
    """Rounds values to a dtype, and returns them in float64."""
    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).astype(float)


def upstream(shape: Shape) -> Array:
    """Returns the gradient that reaches y, exact in float32."""
    return round_to(np.random.default_rng(1).normal(size=shape), "float32")


def reduction_axes(x: Array) -> Shape:
    """Returns all axes but the last, which has the channels."""
    return tuple(range(x.ndim - 1))


def exact(x: Array, dy: Array) -> tuple[Array, Array]:
    """Returns y64 and dx64."""
    # Relative to one of the values, so that the rounding of float64 does not show.
    axes = reduction_axes(x)
    x = x - x.reshape(-1, x.shape[-1])[0]
    factor = 1 / np.sqrt(x.var(axes) + EPSILON)
    y = (x - x.mean(axes)) * factor
    return y, factor * (dy - dy.mean(axes) - y * (dy * y).mean(axes))


def errors(name: str, row: Row, column: str, y: Array, dx: Array) -> Iterator[Error]:
    """Yields the cells of one row and column."""
    y64, dx64 = exact(row.x, upstream(row.x.shape))
    yield Error("y", name, column, float(np.abs(y - y64).max()))
    if row.dtype == "float32":
        axes = reduction_axes(dx64)
        channels = np.abs(dx - dx64).max(axes) / np.abs(dx64).max(axes)
        yield Error("dx", name, column, float(channels.max()))


def keras_layer(layer_type: type, dtype: str, shape: Shape) -> Function:
    """Returns a Keras layer in training mode, as a function."""
    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    layer: Any = layer_type(epsilon=EPSILON, dtype=policy)
    layer.build(shape)
    state = layer.trainable_variables, layer.non_trainable_variables
    # Stateless, because JAX allows no assignment to the moving statistics in a traced gradient.
    return lambda x: layer.stateless_call(*state, x, training=True)[0]


def nnx_layer(dtype: str, shape: Shape, **options: bool) -> Function:
    """Returns `flax.nnx.BatchNorm` in training mode, as a function."""
    nnx: Any = importlib.import_module("flax.nnx")
    settings = {"epsilon": EPSILON, "dtype": dtype, **options}
    # A new layer in each call, because JAX allows no assignment to outer moving statistics.
    return lambda x: nnx.BatchNorm(shape[-1], rngs=nnx.Rngs(0), **settings)(x)


def torch_layer(dtype: str, shape: Shape) -> Function:
    """Returns `torch.nn.BatchNorm` in training mode, with float32 weights for every input."""
    import torch

    def normalize(x: Tensor) -> Tensor:
        layer_class = torch.nn.BatchNorm1d if x.dim() == 2 else torch.nn.BatchNorm2d
        layer = layer_class(shape[-1], eps=EPSILON).to(x.device)
        return layer(x.movedim(-1, 1).contiguous()).movedim(1, -1)

    return normalize


def layers(backend: str) -> dict[str, Callable[[str, Shape], Function]]:
    """Returns a backend's columns, each with a factory of its function for dtype and shape."""
    import keras

    from batchnorm import BatchNormalization

    factories: dict[str, Callable[[str, Shape], Function]] = {
        "batchnorm": partial(keras_layer, BatchNormalization),
        f"Keras {BACKENDS[backend]}": partial(keras_layer, keras.layers.BatchNormalization),
    }
    if backend == "jax" and find_spec("flax"):
        factories["flax.nnx"] = nnx_layer
        factories["nnx two-pass"] = partial(nnx_layer, use_fast_variance=False)
    if backend == "torch":
        factories["torch.nn"] = torch_layer
    return factories


def step(backend: str, function: Function, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the output and the input's gradient."""
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x, output_gradients=dy)
    if backend == "jax":
        import jax

        y, pull_back = jax.vjp(function, x)
        return y, pull_back(dy)[0]
    import torch

    y = function(x.requires_grad_())
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


def measure(backend: str) -> Iterator[Error]:
    """Yields the columns of the backend that Keras was imported with."""
    from keras import ops

    for (column, factory), shape in product(layers(backend).items(), SHAPES):
        for name, row in rows(shape).items():
            x, dy = (ops.convert_to_tensor(array, row.dtype) for array in (row.x, upstream(shape)))
            results = step(backend, factory(row.dtype, shape), x, dy)
            y, dx = (ops.convert_to_numpy(ops.cast(tensor, "float32")) for tensor in results)
            yield from errors(name, row, column, y, dx)


def rounding() -> Iterator[Error]:
    """Yields the column of the exact results, rounded to their dtype."""
    for shape in SHAPES:
        for name, row in rows(shape).items():
            y64, dx64 = (round_to(values, row.dtype) for values in exact(row.x, upstream(shape)))
            yield from errors(name, row, "rounding", y64, dx64)


def versions(backend: str) -> dict[str, str]:
    """Returns the versions of the measured modules of one backend."""
    names = ["batchnorm", "keras", backend, *(["flax"] if backend == "jax" else [])]
    return {name: importlib.import_module(name).__version__ for name in names if find_spec(name)}


def child(backend: str) -> Any:
    """Runs this script for one backend, because a process holds only one."""
    command = [sys.executable, __file__, "--backend", backend]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def short(value: float) -> str:
    """Formats a number as a digit with an exponent, or with up to three digits."""
    if value == 0 or 0.1 <= value < 1000:
        return f"{value:.{0 if value >= 10 else 1}f}".removesuffix(".0")
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("nan", "NaN")


def table(errors: Sequence[Error]) -> Iterator[str]:
    """Yields the lines of a table in Markdown; a cell shows the worst of its errors."""
    columns = list(dict.fromkeys(error.column for error in errors))
    cells = [["mean ± deviation", *columns]]
    for row in dict.fromkeys(error.row for error in errors):
        by_column = [
            [error.error for error in errors if (error.row, error.column) == (row, column)]
            for column in columns
        ]
        # NumPy's maximum, unlike Python's, is NaN if any value is.
        cells.append([row, *(short(float(np.max(values))) for values in by_column)])
    first, *widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in widths)])
    for name, *values in cells:
        padded = [value.rjust(width) for value, width in zip(values, widths, strict=True)]
        yield f"| {' | '.join([name.ljust(first), *padded])} |"


def report() -> None:
    """Measures on every installed backend, and prints the tables."""
    cells, modules = list(rounding()), dict[str, str]()
    for backend in filter(find_spec, BACKENDS):
        output = child(backend)
        cells += [Error(*error) for error in output["errors"]]
        modules |= output["versions"]
    installed = [f"{module} {version}" for module, version in modules.items()]
    print(", ".join([*installed, platform.machine(), f"{os.cpu_count()} cores"]))
    for module in (*BACKENDS, "flax"):
        if module not in modules:
            print(f"{module} is not installed, and left out")
    for name, title in (("y", "|y - y64|"), ("dx", "|dx - dx64| / max |dx64|")):
        lines = table([cell for cell in cells if cell.table == name])
        print(f"\nThe largest {title}:\n", *lines, sep="\n")


def main() -> None:
    """Measures on one backend for a parent process, or on all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=BACKENDS, help="print one backend's errors as JSON")
    if backend := parser.parse_args().backend:
        os.environ["KERAS_BACKEND"] = backend
        print(json.dumps({"versions": versions(backend), "errors": list(measure(backend))}))
    else:
        report()


if __name__ == "__main__":
    main()
