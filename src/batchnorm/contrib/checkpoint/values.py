"""Values for a model's variables: read, converted and checked before any is assigned."""

from typing import NamedTuple

import keras
import numpy as np

from batchnorm.contrib.checkpoint.assignment import Source, fits
from batchnorm.contrib.checkpoint.report import Loaded
from batchnorm.contrib.checkpoint.saver_file import FLOATS, Array, SaverFile
from batchnorm.contrib.checkpoint.variable_kinds import Contents


class Value(NamedTuple):
    """The value of a variable, and its line in the report.

    Attributes:
        value: in the variable's shape and dtype.
        loaded: its entry in the report.
    """

    value: Array
    loaded: Loaded


def value_of(source: Source, file: SaverFile, contents: Contents) -> Value:
    """Reads and converts the value of a variable.

    Args:
        source: of the variable.
        file: to read.
        contents: of the file.

    Raises:
        ValueError: the file is damaged, the value cannot be converted, or it is of another type or
            shape than the variable.
    """
    variable = source.variable
    names = [contents.actual(name) for name in source.names]
    arrays = [_floats(file.read(contents.actual(name))) for name in source.names + source.also]
    try:
        value = source.value(*arrays)
    except ValueError as error:
        raise ValueError(f"{variable.path}, from {', '.join(names)}: {error}") from error
    notes = [_cast(source, contents.entries[names[0]].dtype)]
    shape = value.shape
    if shape != variable.shape:
        if not fits(variable, shape):
            raise ValueError(f"{variable.path} has shape {variable.shape}, its value {shape}.")
        notes.append(f"reshaped from {shape}")
        value = value.reshape(variable.shape)
    dtype = keras.backend.standardize_dtype(variable.keras_variable.dtype)
    with np.errstate(over="ignore"):
        value = value.astype("float32" if dtype == "bfloat16" else dtype)
    if count := value.size - int(np.isfinite(value).sum()):
        notes.append(f"{count} of {value.size} numbers are not finite")
    if contents.shadows:
        same = names == list(source.names)
        notes.append("no moving average in the file" if same else "moving average")
    note = "; ".join(filter(None, notes))
    loaded = Loaded(variable.path, ", ".join(names), variable.shape, source.how, note)
    return Value(value, loaded)


def _floats(value: Array) -> Array:
    """Returns half-precision values as float32: NumPy has no arithmetic for bfloat16."""
    return value.astype("float32") if value.dtype.name in ("bfloat16", "float16") else value


def _cast(source: Source, dtype: str) -> str:
    """Returns the note about a cast; "" for one that needs no note.

    Raises:
        ValueError: one of the types is not floating point, and the variable is not a count.
    """
    variable = source.variable
    target = keras.backend.standardize_dtype(variable.keras_variable.dtype)
    if target == dtype or variable.name == "step":
        return ""
    if not {target, dtype} <= set(FLOATS):
        raise ValueError(
            f"{variable.path} is {target}, but {source.names[0]} in the checkpoint {dtype}: only "
            "floating-point numbers are cast."
        )
    return f"cast from {dtype} to {target}"
