"""Read a pickle of arrays, numbers and strings, and run nothing that it may ask for.

A pickle is a program. This reader knows the few names below, and none of them stands for what the
pickle means by it: each makes an inert part, from which an array of plain integers is built here.
NumPy's own functions are not lent out: a dtype forged by a pickle lets them reach raw memory.
"""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchnorm.data.dataset import DataError


def read(path: Path, mend: str) -> dict[str, Any]:
    """Read a pickled dictionary, written by Python 2 or 3 and any NumPy.

    Args:
        path: The file.
        mend: The advice an error ends with.

    Returns:
        The dictionary, its keys as text, its arrays as NumPy arrays. Python 2's strings stay bytes.

    Raises:
        DataError: The file is not a whole pickle of a dictionary, or asks for anything but
            strings, numbers and arrays of integers.
    """
    try:
        with path.open("rb") as stream:
            found = _Reader(stream, encoding="bytes").load()
        if not isinstance(found, dict):
            raise pickle.UnpicklingError(f"it holds a {type(found).__name__}")
        return {_text(key): _value(item) for key, item in found.items()}
    # Damaged pickles raise errors of many kinds, and the pickle module documents no closed list.
    except Exception as error:
        fault = f"a pickle that is refused ({type(error).__name__}: {error})"
        expected = "a pickled dictionary of strings, numbers and arrays of integers"
        raise DataError(path, fault, expected, mend) from error


class _Dtype:
    """A dtype as a pickle names it: integers and nothing else."""

    def __init__(self, code: str | bytes, *_flags: object) -> None:
        name = _text(code)
        if not re.fullmatch("[iu][1248]", name):
            raise pickle.UnpicklingError(f"it asks for the dtype {name!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, order, subdtype, names, fields, *_sizes = state
        if (subdtype, names, fields) != (None, None, None):
            raise pickle.UnpicklingError("it asks for a dtype with parts")
        byte_order: Any = _text(order)
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array:
    """An array as a pickle builds it: first empty, then filled."""

    def __init__(self) -> None:
        self.values: npt.NDArray[Any] = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, fortran, content = state
        self.values = _frombuffer(content, dtype, shape, "F" if fortran else "C").values


def _reconstruct(*_type_and_shape: object) -> _Array:
    return _Array()


def _frombuffer(content: bytes, dtype: object, shape: tuple[int, ...], order: Any) -> _Array:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("it gives an array no dtype")
    array = _Array()
    array.values = np.frombuffer(content, dtype.dtype).reshape(shape, order=order).copy()
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 pickles them for Python 2."""
    if _text(encoding) != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _empty() -> bytes:
    """The empty bytes, which Python 3 pickles for Python 2 as a call of `bytes`."""
    return b""


_KNOWN: dict[str, Callable[..., object]] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _empty,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        make = _KNOWN.get(f"{module}.{name}")
        if make is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        # A pickle may set attributes on what it is handed, so each time that is a new function.
        return lambda *arguments: make(*arguments)


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _value(item: object) -> object:
    return item.values if isinstance(item, _Array) else item
