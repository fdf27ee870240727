"""Checkpoints of `tf.train.Saver`: where they lie, what they hold, and their values."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FLOATS = ("float16", "bfloat16", "float32", "float64")
_ENDINGS = re.compile(r"(.+)\.(?:index|meta|data-\d+-of-\d+)")


class Entry(NamedTuple):
    """A variable in a file.

    Attributes:
        shape: of the whole, where it was saved in slices.
        dtype: its name, such as "float32".
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
        self.prefix, self._reader = prefix, reader
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        self.entries = {
            name: Entry(tuple(shapes[name]), dtypes[name].name) for name in sorted(shapes)
        }

    def read(self, name: str) -> Array:
        """The value of a variable.

        Raises:
            ValueError: the file is damaged where the value lies.
        """
        try:
            return np.asarray(self._reader.get_tensor(name))
        # TensorFlow documents no list; 2.21 raises OpError and IndexError.
        except Exception as error:
            raise ValueError(f"{self.prefix} is damaged: {name} cannot be read ({error}).") from (
                error
            )


def open_checkpoint(path: str | os.PathLike[str]) -> SaverFile:
    """Opens a checkpoint, of format V2 or V1.

    Args:
        path: the prefix of its files; one of these files; or a folder, for its latest checkpoint.

    Returns:
        What lists and reads its variables.

    Raises:
        FileNotFoundError: there is no checkpoint, or one of its files is missing.
        ImportError: TensorFlow is not installed.
        ValueError: the file is damaged, or none that a Saver writes.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "Checkpoints are read by TensorFlow, which is not installed: "
            "pip install 'batchnorm[tensorflow]'"
        ) from error
    prefix = _latest(Path(path), tf) if Path(path).is_dir() else _prefix(Path(path))
    _check_shards(prefix)
    try:
        file = SaverFile(prefix, tf.train.load_checkpoint(prefix))
    # TensorFlow documents no list; 2.21 raises OpError, DataLossError and others.
    except Exception as error:
        raise ValueError(
            f"{prefix} is damaged, or no checkpoint of tf.train.Saver ({error})."
        ) from error
    if any(name.endswith("/.ATTRIBUTES/VARIABLE_VALUE") for name in file.entries):
        raise ValueError(
            f"{prefix} was written by tf.train.Checkpoint or Model.save_weights, which name "
            "objects instead of variables: load it where it was made, with the class that wrote "
            "it. Checkpoints of tf.train.Saver are read here."
        )
    return file


def _latest(folder: Path, tf: Any) -> str:
    latest: str | None = tf.train.latest_checkpoint(str(folder))
    if latest is None:
        raise FileNotFoundError(
            f"{folder} does not say which of its checkpoints is the latest, because its file "
            f"'checkpoint' is missing or names none that is there. {_nearby(folder)}"
        )
    return latest


def _prefix(path: Path) -> str:
    if path.name == "checkpoint" and path.is_file():
        raise ValueError(
            f"{path} only says which checkpoint is the latest. Give its folder, {path.parent}, or "
            f"the checkpoint itself. {_nearby(path.parent)}"
        )
    named = _ENDINGS.fullmatch(str(path))
    prefix = named[1] if named else str(path)
    # A file of format V1 has the name of the prefix itself.
    if not any(Path(each).is_file() for each in (f"{prefix}.index", prefix)):
        found = f"{path} exists, but {prefix}.index does not" if path.exists() else None
        raise FileNotFoundError(
            f"{found or f'{path} does not exist'}. Expected the prefix of a checkpoint such as "
            f"model.ckpt-6, one of its files, or its folder. {_nearby(path.parent)}"
        )
    return prefix


def _check_shards(prefix: str) -> None:
    """The index alone can be read without the data, which would be missed too late."""
    if not Path(f"{prefix}.index").is_file():
        return
    folder, name = Path(prefix).parent, re.escape(Path(prefix).name)
    found = [
        (int(match[1]), int(match[2]))
        for file in folder.iterdir()
        if (match := re.fullmatch(rf"{name}\.data-(\d+)-of-(\d+)", file.name))
    ]
    count = max((count for _, count in found), default=1)
    missing = [
        f"{prefix}.data-{number:05d}-of-{count:05d}"
        for number in range(count)
        if (number, count) not in found
    ]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} is missing beside {prefix}.index: the values are in it. Copy "
            "all files of the checkpoint."
        )


def _nearby(folder: Path) -> str:
    if not folder.is_dir():
        return f"The folder {folder} does not exist."
    prefixes = sorted(file.name.removesuffix(".index") for file in folder.glob("*.index"))
    if not prefixes:
        return f"There is no checkpoint in {folder}."
    shown = ", ".join(prefixes[:10]) + (", ..." if len(prefixes) > 10 else "")
    return f"In {folder} there is: {shown}."
