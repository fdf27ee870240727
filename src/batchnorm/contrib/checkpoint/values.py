"""The values that variables are to get, read, converted and checked before any is assigned."""

from typing import NamedTuple

import keras
import numpy as np

from batchnorm.contrib.checkpoint.fit import Source, fits
from batchnorm.contrib.checkpoint.kinds import Contents
from batchnorm.contrib.checkpoint.report import Loaded
from batchnorm.contrib.checkpoint.saver_file import FLOATS, Array, SaverFile


class Value(NamedTuple):
    """What a variable gets.

    Attributes:
        value: of the variable's shape.
        loaded: what the report says about it.
    """

    value: Array
    loaded: Loaded


def value_of(source: Source, file: SaverFile, contents: Contents) -> Value:
    """Reads what a variable is loaded from.

    Args:
        source: of the variable.
        file: to read.
        contents: of the file.

    Raises:
        ValueError: the file is damaged, the value cannot be converted, or it is of another type or
            shape than the variable.
    """
    wanted = source.wanted
    names = [contents.actual(name) for name in source.names]
    arrays = [_floats(file.read(contents.actual(name))) for name in source.names + source.also]
    try:
        value = source.value(*arrays)
    except ValueError as error:
        raise ValueError(f"{wanted.path}, from {', '.join(names)}: {error}") from error
    notes = [_cast(source, contents.entries[names[0]].dtype)]
    shape = value.shape
    if shape != wanted.shape:
        if not fits(wanted, shape):
            raise ValueError(f"{wanted.path} has shape {wanted.shape}, its value {shape}.")
        notes.append(f"reshaped from {shape}")
        value = value.reshape(wanted.shape)
    dtype = keras.backend.standardize_dtype(wanted.variable.dtype)
    with np.errstate(over="ignore"):
        value = value.astype("float32" if dtype == "bfloat16" else dtype)
    if count := value.size - int(np.isfinite(value).sum()):
        notes.append(f"{count} of {value.size} numbers are not finite")
    if contents.shadows:
        same = names == list(source.names)
        notes.append("no moving average in the file" if same else "moving average")
    note = "; ".join(filter(None, notes))
    loaded = Loaded(wanted.path, ", ".join(names), wanted.shape, source.how, note)
    return Value(value, loaded)


def _floats(value: Array) -> Array:
    """NumPy does no arithmetic in bfloat16, and too little in float16."""
    return value.astype("float32") if value.dtype.name in ("bfloat16", "float16") else value


def _cast(source: Source, dtype: str) -> str:
    """What to say about the change of a type.

    Raises:
        ValueError: it is not from floating point to floating point, nor of a count.
    """
    wanted = keras.backend.standardize_dtype(source.wanted.variable.dtype)
    if wanted == dtype or source.wanted.name == "step":
        return ""
    if not {wanted, dtype} <= set(FLOATS):
        raise ValueError(
            f"{source.wanted.path} is {wanted}, but {source.names[0]} in the checkpoint {dtype}: "
            "only floating-point numbers are cast."
        )
    return f"cast from {dtype} to {wanted}"
