"""Loads models from untrusted `.keras` files, within the memory that their weights need."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from batchnorm_app.errors import UserError, one_line
from batchnorm_app.files import check_regular

_WEIGHTS = "model.weights.h5"
_MARGIN = 1 << 20  # bytes, for variables that a layer creates and does not save


def load_model(path: Path, hint: str) -> keras.Model:
    """Loads a model, not compiled, from a file.

    Args:
        path: a `.keras` file.
        hint: the advice that an error ends with.

    Raises:
        UserError: the file is missing, damaged or not a Keras model; its layers need more memory
            than its weights have; or a weight is not finite.
    """
    check_regular(path, hint)
    try:
        with _weights_limited_to(_size_of_weights(path)):
            model = keras.models.load_model(path, compile=False)
        if not isinstance(model, keras.Model):
            raise ValueError(f"it holds a {type(model).__name__}, expected a model")
        for variable in model.variables:
            value = keras.ops.convert_to_numpy(variable)
            if value.dtype.kind not in "biu" and not np.isfinite(value.astype("f")).all():
                raise ValueError(f"{variable.path} holds numbers that are not finite")
    # Keras does not document the exceptions that a damaged file raises.
    except Exception as error:
        raise UserError(f"{path} is damaged ({one_line(error)}): {hint}") from error
    return model


def _size_of_weights(path: Path) -> int:
    """Returns the bytes of the weights in a file; raises unless all checksums are right."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        # Weights are not compressed, and hardly could be.
        if size > 20 * path.stat().st_size + _MARGIN:
            raise ValueError(f"it declares {size:,} bytes, but has {path.stat().st_size:,}")
        if (entry := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {entry} is wrong")
        return archive.getinfo(_WEIGHTS).file_size


@contextmanager
def _weights_limited_to(size: int) -> Iterator[None]:
    """Raises while layers are built if their weights have more bytes than the file's weights."""
    add_weight = keras.layers.Layer.add_weight
    available = size + _MARGIN

    def check(layer: Any, shape: Any = None, *arguments: Any, **options: Any) -> Any:
        nonlocal available
        itemsize = 2  # bytes in half precision, the smallest that weights are saved in
        available -= itemsize * math.prod((shape,) if isinstance(shape, int) else shape or ())
        if available < 0:
            raise ValueError(f"{layer.name} has more weights than the {size:,} bytes of {_WEIGHTS}")
        return add_weight(layer, shape, *arguments, **options)

    keras.layers.Layer.add_weight = check
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add_weight
