"""The idx format: a magic number, the shape, the bytes, and nothing else."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchnorm.data.dataset import DataError

# Two zero bytes, 8 for unsigned bytes, then the rank.
MAGIC = 0x00000800


def read(path: Path, rank: int, mend: str) -> npt.NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, gzipped if its name ends in `.gz`.

    Args:
        path: The file.
        rank: How many dimensions the array must have: 3 for grey images, 1 for labels.
        mend: The advice an error ends with.

    Returns:
        A writable array of the shape in the file's header.

    Raises:
        DataError: The file cannot be read, or is not such a file to the last byte.
    """
    content = _content(path, mend)
    header = struct.Struct(f">{1 + rank}I")
    if len(content) < header.size:
        found = f"a file cut short after {len(content)} bytes"
        raise DataError(path, found, f"a header of {header.size} bytes", mend)
    magic, *shape = header.unpack_from(content)
    if magic != MAGIC + rank:
        expected = f"0x{MAGIC + rank:08x} (unsigned bytes in {rank} dimensions)"
        raise DataError(path, f"the magic number 0x{magic:08x}", expected, mend)
    if 0 in shape:
        raise DataError(path, f"the empty shape {tuple(shape)}", "at least one item", mend)
    held, needed = len(content) - header.size, math.prod(shape)
    if held != needed:
        fault = "data cut short" if held < needed else "trailing bytes"
        expected = f"{needed} for the shape {tuple(shape)} in its header"
        raise DataError(path, f"{fault}: {held} bytes after the header", expected, mend)
    # PyTorch warns about an array that may not be written to, so this one is a copy.
    return np.frombuffer(content, np.uint8, offset=header.size).reshape(shape).copy()


def _content(path: Path, mend: str) -> bytes:
    zipped = path.suffix == ".gz"
    expected = "a whole gzip file" if zipped else "a readable file"
    try:
        with gzip.open(path) if zipped else path.open("rb") as stream:
            return stream.read()
    except (OSError, EOFError, zlib.error) as error:
        found = f"one that cannot be read ({type(error).__name__}: {error})"
        raise DataError(path, found, expected, mend) from error
