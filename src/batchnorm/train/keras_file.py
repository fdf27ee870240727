"""Models from `.keras` files, which may be damaged, or have layers that no memory could hold."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from batchnorm.train.errors import RunError, one_line
from batchnorm.train.files import check_regular

_WEIGHTS = "model.weights.h5"
_ROOM = 1 << 20  # bytes, for variables that a layer makes and does not save


def load_model(path: Path, hint: str) -> keras.Model:
    """Reads a model from a file.

    Args:
        path: a `.keras` file.
        hint: the advice that an error ends with.

    Returns:
        The model, not compiled.

    Raises:
        RunError: the file is missing, damaged or not one of Keras's; or its layers need more memory
            than its weights have, or a weight is not finite.
    """
    check_regular(path, hint)
    try:
        with _no_more_weights_than(_size_of_weights(path)):
            model = keras.models.load_model(path, compile=False)
        if not isinstance(model, keras.Model):
            raise ValueError(f"it holds a {type(model).__name__}, expected a model")
        for variable in model.variables:
            value = keras.ops.convert_to_numpy(variable)
            if value.dtype.kind not in "biu" and not np.isfinite(value.astype("f")).all():
                raise ValueError(f"{variable.path} holds numbers that are not finite")
    # Keras documents no list of what a damaged file makes it raise.
    except Exception as error:
        raise RunError(f"{path} is damaged ({one_line(error)}): {hint}") from error
    return model


def _size_of_weights(path: Path) -> int:
    """The bytes of the weights in a file, all of whose checksums are right."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        # Weights are not compressed, and hardly could be.
        if size > 20 * path.stat().st_size + _ROOM:
            raise ValueError(f"it declares {size:,} bytes, but has {path.stat().st_size:,}")
        if (entry := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {entry} is wrong")
        return archive.getinfo(_WEIGHTS).file_size


@contextmanager
def _no_more_weights_than(size: int) -> Iterator[None]:
    """Lets layers be built as long as their weights have no more bytes than a file of weights."""
    add_weight = keras.layers.Layer.add_weight
    left = size + _ROOM

    def check(layer: Any, shape: Any = None, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        bytes_each = 2  # in half precision, the smallest that a weight is saved in
        left -= bytes_each * math.prod((shape,) if isinstance(shape, int) else shape or ())
        if left < 0:
            raise ValueError(f"{layer.name} has more weights than the {size:,} bytes of {_WEIGHTS}")
        return add_weight(layer, shape, *arguments, **options)

    keras.layers.Layer.add_weight = check
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add_weight
