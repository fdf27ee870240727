"""How far batch normalization is from float64, ours and Keras's, on the backend in use.

    KERAS_BACKEND=torch python benchmarks/numerics.py

Prints, for float32 inputs `(32, 16, 16, 8)`, the largest |y - y64| of a training step, where y64
is the same in float64 NumPy, once on the inputs' exact values.
"""

import os
import platform

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import numpy.typing as npt

from batchnorm import BatchNormalization, __version__

SHAPE = (32, 16, 16, 8)
EPSILON = 1e-3

Array = npt.NDArray[np.floating]


def inputs() -> dict[str, Array]:
    """The table's rows, float32."""
    normal = np.random.default_rng(0).normal(size=SHAPE)
    rows = {f"mean {mean:g}, deviation 1": normal + mean for mean in (0, 1e2, 1e4, 1e6)}
    rows |= {
        "mean -123456.7, deviation 1": normal - 123456.7,
        "mean 1, deviation 1e-3": normal * 1e-3 + 1,
        "constant 4096.1": np.full(SHAPE, 4096.1),
    }
    return {name: x.astype("float32") for name, x in rows.items()}


def exact(x: Array) -> Array:
    """The normalized input in float64."""
    x = x.astype("float64")
    axes = tuple(range(x.ndim - 1))
    # About one of the values, so that float64's own rounding does not show.
    x = x - x.reshape(-1, x.shape[-1])[0]
    y: Array = (x - x.mean(axes)) / np.sqrt(x.var(axes) + EPSILON)
    return y


def error(layer: keras.layers.Layer, x: Array) -> float:
    """The largest |y - y64|; NaN if there is one."""
    y = keras.ops.convert_to_numpy(layer(x, training=True))
    return float(np.abs(y - exact(x)).max())


def main() -> None:
    """Prints the table."""
    backend = keras.backend.backend()
    print(
        f"batchnorm {__version__}, Keras {keras.__version__} on {backend}, "
        f"{platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"{'max |y - y64|, float32':30} {'batchnorm':>10} {'Keras':>10}")
    for name, x in inputs().items():
        ours = error(BatchNormalization(epsilon=EPSILON), x)
        theirs = error(keras.layers.BatchNormalization(epsilon=EPSILON), x)
        print(f"{name:30} {ours:10.1e} {theirs:10.1e}")


if __name__ == "__main__":
    main()
