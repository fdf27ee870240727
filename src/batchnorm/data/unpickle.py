"""Reads a pickle of arrays, numbers and strings without running anything that it calls.

A pickle is a program. This reader has the few names below, and replaces the function behind each
by one that makes an inert part, from which an array of plain integers is built here. NumPy's own
functions are never called: with a dtype that a pickle forged they reach raw memory.

A small program can ask for much work, too. Its instructions, the size of their results and of the
file are limited here, and only strings are keys: a few nested tuples that share their items take
2**60 steps to hash.
"""

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchnorm.data.dataset import DataError
from batchnorm.data.excerpt import excerpt

# Five times the instructions and thirty times the bytes of CIFAR-10's official files.
INSTRUCTIONS = 250_000
LARGEST = 1 << 30

_EXPECTED = "a pickled dictionary of strings, numbers and arrays of integers"


def read(path: Path, hint: str) -> dict[str, Any]:
    """Reads a pickled dictionary, written by Python 2 or 3 and any NumPy.

    Args:
        path: the file.
        hint: the last sentences of an error.

    Returns:
        The dictionary, its keys as text, its arrays as NumPy arrays. Python 2's strings stay bytes.

    Raises:
        DataError: the file is not a complete pickle of a dictionary, or asks for anything but
            strings, numbers and arrays of integers, or for more of them than data sets have.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise pickle.UnpicklingError(f"it has more than {LARGEST:,} bytes")
        return _entries(_Reader(content).load())
    # Damaged pickles raise errors of many kinds, and the pickle module documents no closed list.
    except Exception as error:
        fault = f"a pickle that is refused ({type(error).__name__}: {error})"
        raise DataError(path, fault, _EXPECTED, hint) from error


def _entries(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise pickle.UnpicklingError(f"it holds {excerpt(value)}")
    entries = {_text(key): _value(item) for key, item in value.items()}
    if len(entries) < len(value):
        raise pickle.UnpicklingError("it has a key twice, as text and as bytes")
    return entries


class _Dtype:
    """A dtype as a pickle names it, of integers only."""

    def __init__(self, code: str | bytes, *_flags: object) -> None:
        name = _text(code)
        if not re.fullmatch("[iu][1248]", name):
            raise pickle.UnpicklingError(f"it asks for the dtype {excerpt(name)}")
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


def _frombuffer(content: object, dtype: object, shape: object, order: object) -> _Array:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("it gives an array no dtype")
    if not isinstance(content, bytes):
        raise pickle.UnpicklingError(f"it fills an array with {excerpt(content)}")
    # NumPy's reshape would take a negative size for one that is to be computed.
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise pickle.UnpicklingError(f"it gives an array the shape {excerpt(shape)}")
    layout: Any = "F" if order == "F" else "C"
    array = _Array()
    array.values = np.frombuffer(content, dtype.dtype).reshape(shape, order=layout).copy()
    return array


def _encode(text: object, encoding: str | bytes) -> bytes:
    """Returns bytes that Python 3 pickled for Python 2."""
    if _text(encoding) != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"it asks for the encoding {excerpt(encoding)}")
    return text.encode("latin1")


def _empty() -> bytes:
    """Returns the empty bytes, which Python 3 pickles for Python 2 as a call of `bytes`."""
    return b""


_REPLACEMENTS: dict[str, Callable[..., object]] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _empty,
}


class _Reader(pickle._Unpickler):
    """The unpickler written in Python: the one in C hashes keys before they can be checked.

    `_Unpickler` is undocumented, and the same from Python 3.11 to 3.14. It reads from memory: from
    a file, a length that a pickle claims would be allocated at once.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        # Each byte of an array may be encoded first and then copied.
        self._remaining_bytes = 2 * len(content)
        self.dispatch = _Instructions(self)  # type: ignore[misc]  # of this reader alone

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        make = _REPLACEMENTS.get(f"{module}.{name}")
        if make is None:
            raise pickle.UnpicklingError(f"it asks for {module[:60]}.{name[:60]}")
        return lambda *arguments: self._spend(make(*arguments))

    def build(self) -> None:
        """Fills an array or a dtype; refuses to set the state of anything else."""
        state = self.stack.pop()
        part = self.stack[-1]
        if not isinstance(part, _Array | _Dtype) or not isinstance(state, tuple):
            raise pickle.UnpicklingError(f"it sets the state of {excerpt(part)}")
        part.__setstate__(state)
        self._spend(part)

    def set_item(self) -> None:
        """Adds an entry to a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def set_items(self) -> None:
        """Adds the entries behind the last mark to a dictionary."""
        self._update(self.pop_mark())

    def make_dict(self) -> None:
        """Makes a dictionary of the entries behind the last mark."""
        items = self.pop_mark()
        self.stack.append({})
        self._update(items)

    def array_content(self) -> None:
        """Reads the bytes of a writable array."""
        self.stack.append(self.read(int.from_bytes(self.read(8), "little")))

    def _update(self, items: list[Any]) -> None:
        entries, keys = self.stack[-1], items[::2]
        for key in keys:
            if not isinstance(key, str | bytes):
                raise pickle.UnpicklingError(f"it has {excerpt(key)} for a key")
        if not isinstance(entries, dict):
            raise pickle.UnpicklingError(f"it adds an entry to {excerpt(entries)}")
        entries.update(zip(keys, items[1::2], strict=True))

    def _spend(self, part: object) -> object:
        size = len(part) if isinstance(part, bytes) else 0
        size += part.values.nbytes if isinstance(part, _Array) else 0
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            raise pickle.UnpicklingError("it asks for more bytes than the file has")
        return part


# No data set contains attributes of instances, sets, extensions or buffers.
_ALLOWED = (
    "APPEND APPENDS BINBYTES BINBYTES8 BINFLOAT BINGET BININT BININT1 BININT2 BINPUT BINSTRING "
    "BINUNICODE BINUNICODE8 EMPTY_DICT EMPTY_LIST EMPTY_TUPLE FLOAT FRAME GET GLOBAL INT LIST LONG "
    "LONG1 LONG4 LONG_BINGET LONG_BINPUT MARK MEMOIZE NEWFALSE NEWTRUE NONE POP POP_MARK PROTO PUT "
    "REDUCE SHORT_BINBYTES SHORT_BINSTRING SHORT_BINUNICODE STACK_GLOBAL STOP STRING TUPLE TUPLE1 "
    "TUPLE2 TUPLE3 UNICODE"
).split()
_NAMES = {getattr(pickle, name)[0]: name for name in _ALLOWED}
_OVERRIDDEN: dict[int, Callable[[Any], None]] = {
    pickle.BUILD[0]: _Reader.build,
    pickle.BYTEARRAY8[0]: _Reader.array_content,
    pickle.DICT[0]: _Reader.make_dict,
    pickle.SETITEM[0]: _Reader.set_item,
    pickle.SETITEMS[0]: _Reader.set_items,
}


class _Instructions(dict[int, Callable[[Any], None]]):
    """The instructions that a reader executes, up to the limit."""

    def __init__(self, reader: _Reader) -> None:
        functions = type(reader).dispatch
        super().__init__({code: functions[code] for code in _NAMES} | _OVERRIDDEN)
        self._remaining = INSTRUCTIONS

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self._remaining -= 1
        if self._remaining < 0:
            raise pickle.UnpicklingError(f"it has more than {INSTRUCTIONS:,} instructions")
        if code not in self:
            raise pickle.UnpicklingError(f"it has the instruction {bytes([code])!r}")
        return super().__getitem__(code)


def _text(value: object) -> str:
    if not isinstance(value, str | bytes):
        raise pickle.UnpicklingError(f"it has {excerpt(value)} in the place of a name")
    text = value if isinstance(value, str) else value.decode("latin1")
    if not text.isascii():
        raise pickle.UnpicklingError(f"it has the name {excerpt(value)}, which is not ASCII")
    return text


def _value(item: object) -> object:
    return item.values if isinstance(item, _Array) else item
