"""Files that are written whole or not at all, and readers that trust none."""

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

from batchnorm.train.errors import RunError, one_line

JSON_LIMIT = 1 << 20  # bytes, a thousand times those of a file that a run writes
# Version 0.1 left out the number of the process.
_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.part(?:-(?P<process>[0-9]{1,10}))?(?P<suffix>\.\w+)")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A file that appears whole or not at all, whenever the process ends or the disk is full.

    Args:
        path: the file to make or to replace.

    Yields:
        The name to write to, beside it and with the same suffix; what is written takes the place
        of `path` when the block ends, and is deleted if the block raises.

    Raises:
        RunError: the file cannot be written.
    """
    # A name of this process's own: another process that writes the same file has another.
    temporary = path.with_name(f".{path.stem}.part-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}. It is as it was before.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def target_of(path: Path) -> str | None:
    """Returns the name of the file that a temporary file of `atomic` would have become.

    Args:
        path: any file; `None` is the answer for others.
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
    """Checks that there is a file to read: a pipe, say, would never end.

    Args:
        path: the file.
        hint: the advice that an error ends with.

    Raises:
        RunError: there is no such file, or it is a folder, a pipe or a device.
    """
    if not path.is_file():
        kind = "is not a file" if os.path.lexists(path) else "does not exist"
        raise RunError(f"{path} {kind}: {hint}")


def load_arrays(path: Path, hint: str, limit: int) -> dict[str, npt.NDArray[Any]]:
    """Reads the arrays of an `.npz` file, numbers alone and all of them finite.

    No more memory is used than the file's entries and the limit allow, whatever headers declare.

    Args:
        path: the file.
        hint: the advice that an error ends with.
        limit: bytes that the entries may have together.

    Raises:
        RunError: the file is damaged, is not such a file, or holds more or something else.
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
    # zipfile, zlib, lzma, struct, ast and NumPy: none lists what a damaged file makes it raise.
    except Exception as error:
        raise RunError(f"{path} is damaged ({one_line(error)}): {hint}") from error


def _array(name: str, content: bytes) -> npt.NDArray[Any]:
    """The array of one entry, if its header is true."""
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
    declared, there = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if declared != there:
        raise ValueError(f"{name} declares {declared:,} bytes and has {there:,}")
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
        RunError: the file is missing, larger than 1 MB, or does not hold one JSON object without
            NaN, Infinity and repeated names.
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
        raise RunError(f"{path} is damaged ({one_line(error)}): {hint}") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name is there twice")
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def read_numbers(path: Path, names: Sequence[str], hint: str) -> dict[str, float]:
    """Reads some numbers of a JSON file.

    Args:
        path: the file.
        names: of the numbers.
        hint: the advice that an error ends with.

    Raises:
        RunError: the file is damaged, or one of them is missing or not a number.
    """
    values = read_json(path, hint)
    for name in names:
        value: Any = values.get(name)
        # An integer of a thousand digits is no float.
        if type(value) not in (int, float) or not abs(value) < 1e308:
            shown = one_line(json.dumps(value), 60)
            raise RunError(f"{path}: {name} is {shown}, expected a finite number: {hint}")
    return {name: values[name] for name in names}


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON file, whole or not at all.

    Args:
        path: the file.
        value: what to write.
    """
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
