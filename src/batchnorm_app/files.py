"""Atomic writes, and readers that check the contents of files: JSON and NumPy arrays."""

import json
import math
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchnorm_app.errors import UserError, one_line

JSON_LIMIT = 1 << 20  # bytes, a thousand times the files of a run
# Version 0.1 wrote no process number.
_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.part(?:-(?P<process>[0-9]{1,10}))?(?P<suffix>\.\w+)")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Replaces a file in one step, or not at all if the process ends or the disk is full.

    Args:
        path: the file to create or to replace.

    Yields:
        The temporary file to write to, beside `path` and with its suffix; it replaces `path` when
        the block ends, and is deleted if the block raises.

    Raises:
        UserError: the file cannot be written.
    """
    # The process's number keeps apart two processes that write the same file.
    temporary = path.with_name(f".{path.stem}.part-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. It is unchanged.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def target_of(path: Path) -> str | None:
    """Returns the name of the file that a temporary file of `atomic` was to replace, or `None`.

    Args:
        path: any file.
    """
    match = _TEMPORARY.fullmatch(path.name)
    return match["stem"] + match["suffix"] if match else None


def delete_temporary(path: Path) -> None:
    """Deletes a temporary file of `atomic`, unless a process is writing it.

    Args:
        path: the file.
    """
    match = _TEMPORARY.fullmatch(path.name)
    if match and not path.is_dir() and not _is_alive(match["process"]):
        path.unlink(missing_ok=True)


def _is_alive(process: str | None) -> bool:
    # Windows has no signal 0, but does not delete a file that is open either.
    if process is None or sys.platform == "win32":
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return int(process) != os.getpid()


def check_regular(path: Path, hint: str) -> None:
    """Raises unless a path is a regular file; reading a pipe might never end.

    Args:
        path: the file.
        hint: the advice that an error ends with.

    Raises:
        UserError: the path does not exist, or is a folder, a pipe or a device.
    """
    if not path.is_file():
        kind = "is not a file" if os.path.lexists(path) else "does not exist"
        raise UserError(f"{path} {kind}: {hint}")


def load_arrays(path: Path, hint: str, limit: int) -> dict[str, npt.NDArray[Any]]:
    """Reads the arrays of an `.npz` file; raises unless they hold finite numbers.

    It uses no more memory than the limit, whatever the headers declare.

    Args:
        path: the file.
        hint: the advice that an error ends with.
        limit: bytes of all entries together.

    Raises:
        UserError: the file is missing or damaged, or holds more bytes or other values.
    """
    check_regular(path, hint)
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            names = [entry.filename.removesuffix(".npy") for entry in entries]
            if len({*names}) < len(names):
                raise ValueError("two entries have the same name")
            if (size := sum(entry.file_size for entry in entries)) > limit:
                raise ValueError(f"it declares {size:,} bytes, expected at most {limit:,}")
            return {
                name: _array(name, archive.read(entry))
                for name, entry in zip(names, entries, strict=True)
            }
    # zipfile, zlib, lzma, struct, ast and NumPy do not document what a damaged file raises.
    except Exception as error:
        raise UserError(f"{path} is damaged ({one_line(error)}): {hint}") from error


def _array(name: str, content: bytes) -> npt.NDArray[Any]:
    """Returns the array of one entry; raises unless its header fits its content."""
    file = BytesIO(content)
    version = np.lib.format.read_magic(file)
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in headers:
        raise ValueError(f"{name} is of version {version}, expected 1.0 or 2.0")
    shape, _, dtype = headers[version](file)
    if dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {dtype}, expected numbers")
    declared, received = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if declared != received:
        raise ValueError(f"{name} declares {declared:,} bytes and has {received:,}")
    file.seek(0)
    array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return array


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """Reads an object from a JSON file.

    Args:
        path: the file.
        hint: the advice that an error ends with.

    Raises:
        UserError: the file is missing, larger than 1 MB, or not a JSON object without NaN,
            Infinity and repeated names.
    """
    check_regular(path, hint)
    try:
        with path.open("rb") as file:
            content = file.read(JSON_LIMIT + 1)
        if len(content) > JSON_LIMIT:
            raise ValueError(f"it has more than {JSON_LIMIT:,} bytes")
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
        if not isinstance(value, dict):
            raise ValueError(f"it holds {one_line(repr(value), 60)}, expected an object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({one_line(error)}): {hint}") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name is repeated")
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def read_numbers(path: Path, names: Sequence[str], hint: str) -> dict[str, float]:
    """Reads numbers from a JSON file.

    Args:
        path: the file.
        names: keys of the numbers.
        hint: the advice that an error ends with.

    Raises:
        UserError: the file is damaged, or a number is missing or not finite.
    """
    values = read_json(path, hint)
    for name in names:
        value: Any = values.get(name)
        # An integer of a thousand digits does not fit into a float.
        if type(value) not in (int, float) or not abs(value) < 1e308:
            shown = one_line(json.dumps(value), 60)
            raise UserError(f"{path}: {name} is {shown}, expected a finite number: {hint}")
    return {name: values[name] for name in names}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON file in one step.

    Args:
        path: the file.
        value: the object to write.
    """
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
