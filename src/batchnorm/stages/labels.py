"""Class numbers and mixtures of classes: checked, and looked up in a table."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from batchnorm.stages.placement import concrete, wide_integers
from batchnorm.stages.product import product
from batchnorm.stages.tensors import cast, dtype_of, reshaped, tensor

Tensor = Any


def rows(table: Tensor, labels: Tensor, name: str = "labels") -> Tensor:
    """The row of a table for each label, or a weighted sum of all rows for each mixture.

    Args:
        table: `(n, ...)`, a row per class.
        labels: `(N,)` or `(N, 1)`, of any integer type; or `(N, n)`, floating point, how much of
            each class, which need not add up to 1.
        name: what the caller calls the labels.

    Returns:
        `(N, ...)` in the dtype of the table; NaN for labels outside [0, n) that are found only
        when compiled code runs. The gradient of a row that no label asks for is exactly 0.

    Raises:
        ValueError: the labels have another shape or type; one that can be read is outside [0, n).

    Example:
        >>> import numpy as np
        >>> keras.ops.convert_to_numpy(rows(np.eye(3), np.array([2, 0]))).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    table = ops.convert_to_tensor(table)
    return row_lookup(labels, table.shape[0], name)(table)


def row_lookup(labels: Tensor, classes: int, name: str = "labels") -> Callable[[Tensor], Tensor]:
    """Returns the function of a table that `rows` applies; labels are checked once.

    Args:
        labels: as for `rows`.
        classes: n, how many rows the tables have.
        name: what the caller calls the labels.

    Returns:
        A function from `(n, ...)` to `(N, ...)`.

    Raises:
        ValueError: as for `rows`.
    """
    if not isinstance(labels, np.ndarray | keras.Variable):
        # Of other frameworks' tensors, too: the backend's own conversion may wrap large numbers.
        labels = labels if ops.is_tensor(labels) else np.asarray(labels)
    mixed = _mixed(labels, classes, name)
    # torch.compile refuses a function that reads what is not set, even where it would not.
    valid: Tensor = None
    index: Tensor = None
    if mixed:
        _say_what_does_not_sum_to_one(labels, name)
        labels = ops.convert_to_tensor(labels)
    else:
        valid, index = _index(labels, classes, name)

    def lookup(table: Tensor) -> Tensor:
        # TensorFlow's gradient of a reshape is dense, and that of a lookup alone is not.
        flat = reshaped(tensor(table), (classes, -1))
        if mixed:
            selected = product(ops.cast(labels, flat.dtype), flat)
        else:
            selected = ops.take(flat, index, axis=0)
            if valid is not None:
                selected = ops.where(valid[:, None], selected, np.nan)
        return reshaped(selected, (-1, *table.shape[1:]))

    return lookup


def mixtures(labels: Tensor, classes: int, dtype: str = "float32") -> Tensor:
    """Labels as mixtures: 1 for the class, 0 for all others.

    Args:
        labels: as for `rows`.
        classes: n, how many there are.
        dtype: of the result.

    Returns:
        `(N, n)`; NaN where `rows` has it.

    Raises:
        ValueError: as for `rows`.

    Example:
        >>> keras.ops.convert_to_numpy(mixtures([1], 3)).tolist()
        [[0.0, 1.0, 0.0]]
    """
    return rows(ops.eye(classes, dtype=dtype), labels)


def refuse_wide(labels: Any) -> None:
    """Raises for labels that the backend would turn into other ones.

    JAX without x64 keeps the last 32 bits of an integer, which may be a class's number.

    Args:
        labels: of any kind, before they are converted. Tensors of the backend pass.

    Raises:
        ValueError: one does not fit into 32 bits, on JAX without x64, or in a list.
    """
    numbers = _integers(labels)  # of which Keras makes 32 bits everywhere
    tensors = ops.is_tensor(labels) or isinstance(labels, keras.KerasTensor)
    if not numbers and (tensors or not hasattr(labels, "__array__") or wide_integers()):
        return
    values = np.asarray(labels)
    if values.dtype.kind not in "iuO" or values.dtype.itemsize < 8:
        return
    wrong = np.flatnonzero((values > 2**31 - 1) | (values < -(2**31)))
    if wrong.size:
        raise ValueError(
            f"labels must be class numbers counted from 0, and place {wrong[0]} holds "
            f"{values.reshape(-1)[wrong[0]]}, more than 32 bits. Number the classes from 0 without "
            "gaps, np.unique(labels, return_inverse=True)[1]."
        )


def _integers(labels: Any) -> bool:
    if isinstance(labels, list | tuple):
        return bool(labels) and all(map(_integers, labels))
    return isinstance(labels, int)


def _mixed(labels: Tensor, classes: int, name: str) -> bool:
    """Tells mixtures from class numbers; raises for any other type or shape."""
    dtype = dtype_of(labels)
    shape = tuple(labels.shape)
    if keras.backend.is_float_dtype(dtype):
        if len(shape) == 2 and shape[1] == classes:
            return True
        expected = f"of a floating-point type they are mixtures, ({_size(shape)}, {classes})"
        hint = "For the numbers of classes use integers: keras.Input((), dtype='int32')."
    elif dtype == "bool" or dtype.startswith("complex"):
        expected = "they are integers, or mixtures of a floating-point type"
        hint = "Cast them."
    elif len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return False
    else:
        expected = f"of an integer type they are ({_size(shape)},) or ({_size(shape)}, 1)"
        hint = f"To give one-hot rows, (N, {classes}), cast them to float32."
    raise ValueError(f"{name} are {dtype} of shape {shape}: {expected}. {hint}")


def _size(shape: Sequence[int | None]) -> Any:
    return shape[0] if shape and shape[0] is not None else "N"


def _index(labels: Tensor, classes: int, name: str) -> tuple[Tensor | None, Tensor]:
    """Returns which labels are valid, `None` if all are, and their rows, any row if not."""
    read = concrete(labels)
    if read:
        values = ops.convert_to_numpy(labels).reshape(-1)
        wrong = np.flatnonzero((values < 0) | (values >= classes))
        if wrong.size:
            raise ValueError(
                f"{name} must be from 0 to {classes - 1}, and place {wrong[0]} holds "
                f"{values[wrong[0]]}. Count classes from 0, or make the layer for more of them."
            )
        if isinstance(labels, np.ndarray):
            labels = labels.astype("int32")  # PyTorch has no unsigned ones
    index = ops.convert_to_tensor(labels)
    # Narrowing a large number could make a class's of it, where the backend has such.
    wide = dtype_of(index) in ("int64", "uint64")
    index = reshaped(cast(index, "int64" if wide else "int32"), (-1,))
    if read:
        return None, index
    valid = ops.logical_and(index >= 0, index < classes)
    return valid, ops.where(valid, index, ops.zeros_like(index))


def _say_what_does_not_sum_to_one(labels: Tensor, name: str) -> None:
    if concrete(labels):
        sums = ops.convert_to_numpy(labels).astype("float64").sum(-1)
        wrong = np.flatnonzero(~(np.abs(sums - 1.0) < 1e-2))
        if wrong.size:
            warnings.warn(
                f"{name} at place {wrong[0]} adds up to {sums[wrong[0]]:.4g}, not 1: its gamma "
                "and beta are multiples of a mixture's.",
                stacklevel=4,
            )
