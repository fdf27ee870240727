"""Checkpoint files of `tf.train.Saver`: their variables and values."""

import math
import os
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from batchnorm.contrib.checkpoint.prefix import check_shards, data_size, find_prefix

Array = npt.NDArray[Any]

FLOATS = ("float16", "bfloat16", "float32", "float64")
# The first bytes of files that are mistaken for checkpoints, and the function that opens them.
_FOREIGN = (
    (b"\x89HDF", "It is HDF5: keras.models.load_model or model.load_weights reads it."),
    (b"PK\x03\x04", "It is a ZIP archive, as Keras, NumPy and PyTorch write: load it with these."),
    (b"\x80", "It is a pickle, as PyTorch writes: torch.load reads it."),
)


_SIZES = {name: np.dtype(name).itemsize for name in FLOATS if name != "bfloat16"} | {
    "bfloat16": 2,
    **{f"{kind}{bits}": bits // 8 for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
_COPY = "Copy the files of the checkpoint again from where they were written."


class Entry(NamedTuple):
    """A variable in a file.

    Attributes:
        shape: of the whole variable, also if it was saved in slices.
        dtype: the name of its type, such as "float32".
    """

    shape: tuple[int, ...]
    dtype: str


class SaverFile:
    """A checkpoint that is open.

    Args:
        prefix: the name that its files have in common, such as `folder/model.ckpt-6`.
        reader: TensorFlow's.

    Attributes:
        prefix: as above.
        entries: all variables by name, sorted.
    """

    def __init__(self, prefix: str, reader: Any) -> None:
        self.prefix, self._reader, self._size = prefix, reader, data_size(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        self.entries = {
            name: Entry(tuple(shapes[name]), dtypes[name].name) for name in sorted(shapes)
        }

    def read(self, name: str) -> Array:
        """Reads the value of a variable.

        Raises:
            ValueError: the file is damaged where the value lies.
        """
        shape, dtype = self.entries[name]
        if dtype in _SIZES and self._size is not None:
            declared = math.prod(shape) * _SIZES[dtype]
            if declared > self._size:
                raise ValueError(
                    f"{self.prefix} is damaged: {name} cannot be read (its shape {shape} takes "
                    f"{declared:,} bytes, all files have {self._size:,}). {_COPY}"
                )
        try:
            return np.asarray(self._reader.get_tensor(name))
        # TensorFlow documents no list; 2.21 raises OpError and IndexError.
        except Exception as error:
            raise ValueError(
                f"{self.prefix} is damaged: {name} cannot be read ({_line(error)}). {_COPY}"
            ) from error


def open_checkpoint(path: str | os.PathLike[str]) -> SaverFile:
    """Opens a checkpoint, of format V2 or V1.

    Args:
        path: the prefix of its files; one of these files; or a folder, for its latest checkpoint.

    Returns:
        The open file, which lists and reads its variables.

    Raises:
        FileNotFoundError: there is no checkpoint, or one of its files is missing.
        ImportError: TensorFlow is not installed.
        ValueError: the file is damaged, or was not written by a Saver.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "Checkpoints are read by TensorFlow, which is not installed: "
            "pip install 'batchnorm[tensorflow]'"
        ) from error
    prefix = find_prefix(path, tf)
    check_shards(prefix)
    try:
        # Not tf.train.load_checkpoint, which takes a prefix for the folder of the same name.
        file = SaverFile(prefix, tf.compat.v1.train.NewCheckpointReader(prefix))
    # TensorFlow documents no list; 2.21 raises OpError, DataLossError and others.
    except Exception as error:
        raise ValueError(
            f"{_readable(prefix)} is damaged, or no checkpoint of tf.train.Saver "
            f"({_line(error)}). {_remedy(prefix)}"
        ) from error
    if any(name.endswith("/.ATTRIBUTES/VARIABLE_VALUE") for name in file.entries):
        raise ValueError(
            f"{prefix} was written by tf.train.Checkpoint or Model.save_weights, which name "
            "objects instead of variables: load it where it was made, with the class that wrote "
            "it. Checkpoints of tf.train.Saver are read here."
        )
    return file


def _readable(prefix: str) -> str:
    """Returns the file that a checkpoint is opened by."""
    index = f"{prefix}.index"
    return index if os.path.isfile(index) else prefix


def _remedy(prefix: str) -> str:
    with open(_readable(prefix), "rb") as file:
        start = file.read(4)
    for magic, remedy in _FOREIGN:
        if start.startswith(magic):
            return remedy
    return f"{_COPY} Other files, such as frozen graphs (.pb), are not read here."


def _line(error: Exception) -> str:
    """Returns an error of TensorFlow's in one line, shortened."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
