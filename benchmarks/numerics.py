"""How far batch normalization is from float64: this layer, Keras's, flax.nnx's and PyTorch's.

    python benchmarks/numerics.py

Prints two tables for one training step, float32 if a row does not say otherwise, epsilon 1e-3: the
largest error of y, and of dx as a part of its channel's largest, on the worst of several shapes
(`SHAPES`). y64 and dx64 are float64 NumPy's, for the very same inputs; "rounding" is their error
when rounded to the inputs' dtype, "batchnorm" the worst backend, "nnx two-pass" with
`use_fast_variance=False`.
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

# Few channels and many, one, and more rows than channels by far.
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
    """One input: float64, its values those of the dtype that it is handed over in."""

    x: Array
    dtype: str


class Error(NamedTuple):
    """One cell of one of the tables, "y" and "dx"."""

    table: str
    row: str
    column: str
    error: float


def rows(shape: Shape) -> dict[str, Row]:
    """The tables' rows, for inputs of a shape."""
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
        inputs[name] = Row(rounded(x, dtype), dtype)
    return inputs


def rounded(values: Array, dtype: str) -> Array:
    """The values as a dtype holds them, in float64."""
    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).astype(float)


def upstream(shape: Shape) -> Array:
    """The gradient that reaches every y; float32 holds it exactly."""
    return rounded(np.random.default_rng(1).normal(size=shape), "float32")


def measured_axes(x: Array) -> Shape:
    """All axes but the channels', the last."""
    return tuple(range(x.ndim - 1))


def exact(x: Array, dy: Array) -> tuple[Array, Array]:
    """y64 and dx64."""
    # About one of the values, so that float64's own rounding does not show.
    axes = measured_axes(x)
    x = x - x.reshape(-1, x.shape[-1])[0]
    factor = 1 / np.sqrt(x.var(axes) + EPSILON)
    y = (x - x.mean(axes)) * factor
    return y, factor * (dy - dy.mean(axes) - y * (dy * y).mean(axes))


def errors(name: str, row: Row, column: str, y: Array, dx: Array) -> Iterator[Error]:
    """The cells of one row and column."""
    y64, dx64 = exact(row.x, upstream(row.x.shape))
    yield Error("y", name, column, float(np.abs(y - y64).max()))
    if row.dtype == "float32":
        axes = measured_axes(dx64)
        channels = np.abs(dx - dx64).max(axes) / np.abs(dx64).max(axes)
        yield Error("dx", name, column, float(channels.max()))


def keras_layer(layer_type: type, dtype: str, shape: Shape) -> Function:
    """A layer of Keras's kind in training mode, as a function."""
    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    layer: Any = layer_type(epsilon=EPSILON, dtype=policy)
    layer.build(shape)
    state = layer.trainable_variables, layer.non_trainable_variables
    # JAX lets no gradient's trace change the moving statistics.
    return lambda x: layer.stateless_call(*state, x, training=True)[0]


def nnx_layer(dtype: str, shape: Shape, **options: bool) -> Function:
    """`flax.nnx.BatchNorm` in training mode, as a function."""
    nnx: Any = importlib.import_module("flax.nnx")
    settings = {"epsilon": EPSILON, "dtype": dtype, **options}
    # A new one in each call: JAX lets no gradient's trace change the moving statistics.
    return lambda x: nnx.BatchNorm(shape[-1], rngs=nnx.Rngs(0), **settings)(x)


def torch_layer(dtype: str, shape: Shape) -> Function:
    """`torch.nn.BatchNorm` in training mode; its weights are float32 whatever its input is."""
    import torch

    def normalize(x: Tensor) -> Tensor:
        kind = torch.nn.BatchNorm1d if x.dim() == 2 else torch.nn.BatchNorm2d
        layer = kind(shape[-1], eps=EPSILON).to(x.device)
        return layer(x.movedim(-1, 1).contiguous()).movedim(1, -1)

    return normalize


def layers(backend: str) -> dict[str, Callable[[str, Shape], Function]]:
    """The columns of one backend, and the maker of each one's function for dtype and shape."""
    import keras

    from batchnorm import BatchNormalization

    made: dict[str, Callable[[str, Shape], Function]] = {
        "batchnorm": partial(keras_layer, BatchNormalization),
        f"Keras {BACKENDS[backend]}": partial(keras_layer, keras.layers.BatchNormalization),
    }
    if backend == "jax" and find_spec("flax"):
        made["flax.nnx"] = nnx_layer
        made["nnx two-pass"] = partial(nnx_layer, use_fast_variance=False)
    if backend == "torch":
        made["torch.nn"] = torch_layer
    return made


def step(backend: str, function: Function, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the input's gradient."""
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x, output_gradients=dy)
    if backend == "jax":
        import jax

        y, back = jax.vjp(function, x)
        return y, back(dy)[0]
    import torch

    y = function(x.requires_grad_())
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


def measured(backend: str) -> Iterator[Error]:
    """The columns of one backend, which is the one that Keras was imported with."""
    from keras import ops

    for (column, make), shape in product(layers(backend).items(), SHAPES):
        for name, row in rows(shape).items():
            x, dy = (ops.convert_to_tensor(a, row.dtype) for a in (row.x, upstream(shape)))
            results = step(backend, make(row.dtype, shape), x, dy)
            y, dx = (ops.convert_to_numpy(ops.cast(a, "float32")) for a in results)
            yield from errors(name, row, column, y, dx)


def rounding() -> Iterator[Error]:
    """The column of results that are as good as their dtype."""
    for shape in SHAPES:
        for name, row in rows(shape).items():
            y64, dx64 = (rounded(values, row.dtype) for values in exact(row.x, upstream(shape)))
            yield from errors(name, row, "rounding", y64, dx64)


def versions(backend: str) -> dict[str, str]:
    """What is measured on one backend, by module."""
    names = ["batchnorm", "keras", backend, *(["flax"] if backend == "jax" else [])]
    return {name: importlib.import_module(name).__version__ for name in names if find_spec(name)}


def child(backend: str) -> Any:
    """What this script prints for one backend: a process holds only one of Keras's."""
    command = [sys.executable, __file__, "--backend", backend]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def short(value: float) -> str:
    """A digit and its exponent, or up to three digits."""
    if value == 0 or 0.1 <= value < 1000:
        return f"{value:.{0 if value >= 10 else 1}f}".removesuffix(".0")
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("nan", "NaN")


def table(found: Sequence[Error]) -> Iterator[str]:
    """The lines of a table, in Markdown; a column that was measured twice shows the worst."""
    columns = list(dict.fromkeys(error.column for error in found))
    cells = [["mean ± deviation", *columns]]
    for row in dict.fromkeys(error.row for error in found):
        in_row = [[e.error for e in found if (e.row, e.column) == (row, c)] for c in columns]
        # NumPy's maximum is NaN where there is one.
        cells.append([row, *(short(float(np.max(values))) for values in in_row)])
    first, *widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in widths)])
    for name, *values in cells:
        padded = [value.rjust(width) for value, width in zip(values, widths, strict=True)]
        yield f"| {' | '.join([name.ljust(first), *padded])} |"


def report() -> None:
    """Measures on every backend that is installed, and prints the tables."""
    found, modules = list(rounding()), dict[str, str]()
    for backend in filter(find_spec, BACKENDS):
        printed = child(backend)
        found += [Error(*error) for error in printed["errors"]]
        modules |= printed["versions"]
    installed = [f"{module} {version}" for module, version in modules.items()]
    print(", ".join([*installed, platform.machine(), f"{os.cpu_count()} cores"]))
    for module in (*BACKENDS, "flax"):
        if module not in modules:
            print(f"{module} is not installed, and left out")
    for kind, title in (("y", "|y - y64|"), ("dx", "|dx - dx64| / max |dx64|")):
        print(f"\nThe largest {title}:\n", *table([e for e in found if e.table == kind]), sep="\n")


def main() -> None:
    """Measures on one backend for the process that asks for it, or on all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=BACKENDS, help="print one backend's errors as JSON")
    if backend := parser.parse_args().backend:
        os.environ["KERAS_BACKEND"] = backend
        print(json.dumps({"versions": versions(backend), "errors": list(measured(backend))}))
    else:
        report()


if __name__ == "__main__":
    main()
