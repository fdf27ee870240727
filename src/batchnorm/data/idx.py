"""The idx format: a magic number, the shape, the bytes, and nothing else."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from batchnorm.data.dataset import DataError

# Two zero bytes, 8 for unsigned bytes, then the rank.
MAGIC = 0x00000800
# Limit of an array's bytes: twice the size of the largest data sets of this format.
LARGEST = 1 << 30
CHUNK = 1 << 20


def read(path: Path, rank: int, hint: str) -> npt.NDArray[np.uint8]:
    """Reads an idx file of unsigned bytes, gzipped if its name ends in `.gz`.

    Args:
        path: the file.
        rank: of the array: 3 for grey images, 1 for labels.
        hint: the last sentences of an error.

    Returns:
        A writable array of the shape in the file's header.

    Raises:
        DataError: the file cannot be read, or does not follow the format to the last byte.
    """
    zipped = path.suffix == ".gz"
    try:
        with gzip.open(path) if zipped else path.open("rb") as stream:
            return _array(cast(BinaryIO, stream), path, rank, hint)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        fault = f"one that cannot be read ({type(error).__name__}: {error})"
        expected = "a whole gzip file" if zipped else "a readable file"
        raise DataError(path, fault, expected, hint) from error


def _array(stream: BinaryIO, path: Path, rank: int, hint: str) -> npt.NDArray[np.uint8]:
    header = struct.Struct(f">{1 + rank}I")
    content = _content(stream, header.size)
    if len(content) < header.size:
        fault = f"a file cut short after {len(content)} bytes"
        raise DataError(path, fault, f"a header of {header.size} bytes", hint)
    magic, *shape = header.unpack(content)
    if magic != MAGIC + rank:
        expected = f"0x{MAGIC + rank:08x} (unsigned bytes in {rank} dimensions)"
        raise DataError(path, f"the magic number 0x{magic:08x}", expected, hint)
    if 0 in shape:
        raise DataError(path, f"the empty shape {tuple(shape)}", "at least one item", hint)
    size = math.prod(shape)
    if size > LARGEST:
        fault = f"the shape {tuple(shape)} of {size:,} bytes in its header"
        raise DataError(path, fault, f"at most {LARGEST:,} bytes", hint)
    # One byte more, to detect trailing bytes and to make gzip compare its checksum at the end.
    content = _content(stream, size + 1)
    if len(content) != size:
        cut = len(content) < size
        fault = f"data cut short: {len(content)} bytes" if cut else "trailing bytes: more"
        expected = f"{size} for the shape {tuple(shape)} in its header"
        raise DataError(path, f"{fault} after the header", expected, hint)
    # A bytearray is writable, which PyTorch requires of an array.
    return np.frombuffer(content, np.uint8).reshape(shape)


def _content(stream: BinaryIO, size: int) -> bytearray:
    """Reads up to `size` bytes; allocates no memory that the file does not fill."""
    content = bytearray()
    while len(content) < size and (chunk := stream.read(min(CHUNK, size - len(content)))):
        content += chunk
    return content
