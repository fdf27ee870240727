"""Damages of the files that a run holds: cut, flipped, foreign and hostile."""

import io
import json
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Damage = Callable[[Path], object]

# Bits of the headers of zip files: where a file's own header and the directory's have the flags
# and the compression.
_LOCAL, _CENTRAL = (b"PK\x03\x04", 6), (b"PK\x01\x02", 8)
_REMEDY = ("delete", "overwrite", "resume", "correct", "restore", "name another", "leave")


def is_told(text: str, path: Path) -> bool:
    """One line that names the file, or the folder of the run, and says what to do."""
    named = str(path) in text or path.name in text
    return named and "\n" not in text and len(text) < 1500 and any(w in text for w in _REMEDY)


def everywhere(count: int) -> Iterator[tuple[str, Damage]]:
    """Damages of any file: some cuts, so many flipped bytes, files of other kinds."""
    for share in (0.0, 0.01, 0.3, 0.6, 0.95, 0.999):
        yield f"cut at {share}", _changed(partial(_cut, share))
    random = np.random.default_rng(0)
    for place, bit in zip(random.random(count), random.integers(0, 8, count), strict=True):
        yield f"bit {bit} at {place:.4f}", _changed(_flip(float(place), int(bit)))
    for name, content in _foreign().items():
        yield name, partial(_write, content=content)
    yield "a folder", _folder
    yield "a pipe", _pipe


def _changed(change: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _cut(share: float, content: bytes) -> bytes:
    return content[: int(share * len(content))]


def _flip(place: float, bit: int) -> Callable[[bytes], bytes]:
    def change(old: bytes) -> bytes:
        where = int(place * len(old))
        return old[:where] + bytes([old[where] ^ 1 << bit]) + old[where + 1 :]

    return change


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _foreign() -> dict[str, bytes]:
    plain, empty = io.BytesIO(), io.BytesIO()
    np.save(plain, np.ones(3))
    with zipfile.ZipFile(empty, "w"):
        pass
    return {
        "a plain .npy": plain.getvalue(),
        "an empty zip": empty.getvalue(),
        "words": b"garbage\n",
        "a pickle": b"\x80\x04]\x94.",
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(40),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(40),
        "JSON, nested": b"[" * 100_000,
        "JSON, not an object": b"[1, 2]",
        "JSON of nothing": b"{}",
        "JSON with NaN": b'{"settings": NaN}',
        "JSON with a name twice": b'{"settings": {}, "settings": {}}',
        "JSON of a huge number": b'{"settings": ' + b"9" * 5000 + b"}",
        "JSON of 2 MB": b'{"settings": "' + b"x" * 2_000_000 + b'"}',
        "no UTF-8": b'{"settings": "\xff"}',
    }


def arrays() -> Iterator[tuple[str, Damage]]:
    """Damages of an `.npz` file."""
    yield "deflated", _repacked(zipfile.ZIP_DEFLATED)
    yield "deflated, broken in the middle", _deflated_broken
    yield "LZMA", _repacked(zipfile.ZIP_LZMA)
    yield "a compression that nobody knows", _patched(99, 2)
    yield "encrypted", _patched(1, 0)
    yield "400 GB", _header("(100000000000,)")
    yield "a header of nonsense", _header("(((((((")
    yield "a negative shape", _header("(-1,)")
    for name, kind in {
        "strings": "U3",
        "complex": "c8",
        "objects": "O",
        "dates": "M8[s]",
        "float64": "f8",
        "int8": "i1",
    }.items():
        yield name, _first(partial(_zeros, kind))
    yield "NaN", _first(lambda array: np.full(array.shape, np.nan, array.dtype))
    yield "infinity", _first(lambda array: np.full(array.shape, np.inf, array.dtype))
    yield "another shape", _first(lambda array: np.zeros((*array.shape, 2), array.dtype))
    yield "one fewer", lambda path: _save(path, dict([*load(path).items()][1:]))
    yield "one more", lambda path: _save(path, load(path) | {"more": np.ones(3, "f")})
    yield "a name that climbs", lambda path: _save(path, load(path) | {"../x": np.ones(3, "f")})
    yield "a name twice", _twice


def history() -> Iterator[tuple[str, Damage]]:
    """Damages of the history in a checkpoint."""
    changes: dict[str, Callable[[Array], Array]] = {
        "no rows": lambda rows: rows[:0],
        "rows of strings": lambda rows: rows.astype("U8"),
        "rows of NaN": lambda rows: rows * np.nan,
        "longer than the training": lambda rows: _counted(rows.repeat(99, 0)),
        "very much longer": lambda rows: _counted(rows.repeat(99_999, 0)),
        "a column less": lambda rows: rows[:, :-1],
        "a vector": lambda rows: rows[0],
        "not in order": lambda rows: rows[[0, 0]],
        "a gap": lambda rows: rows + np.eye(1, rows.shape[1]),
        "half an epoch": lambda rows: rows + np.eye(1, rows.shape[1]) / 2,
        "from 0": lambda rows: rows - np.eye(1, rows.shape[1]),
        "single precision": lambda rows: rows.astype("f4"),
    }
    for name, change in changes.items():
        yield f"history: {name}", partial(_change_history, change)


def _change_history(change: Callable[[Array], Array], path: Path) -> None:
    contents = load(path)
    _save(path, contents | {"history": change(contents["history"])})


def _zeros(kind: str, array: Array) -> Array:
    return np.zeros(array.shape, kind)


def _counted(rows: Array) -> Array:
    rows[:, 0] = np.arange(1, len(rows) + 1)
    return rows


def settings() -> Iterator[tuple[str, Damage]]:
    """Values that a setting of a LeNet's `config.json` cannot have."""
    wrong: dict[str, list[Any]] = {
        "data": ["mnistx", None, "", ["fashion-mnist"]],
        "data_dir": [3, "", "x" * 5000],
        "batch_size": [1, 0, 2**70, 32.0, "32", True, None],
        "learning_rate": [-1, 0, 1e40, "fast", True, None, 10**400],
        "schedule": ["cosin", "drop:0", "drop:9999", "drop:" + "9" * 9999, "", None, 3],
        "seed": [-1, 2**32, 2**70, 0.5, True],
        "backend": ["abacus", None, ""],
        "epochs": [0, -1, True, 1.5, 10**20, "3", [3]],
        "normalization": [
            "our",
            "ghost:1e30",
            "ghost:1e400",
            "renorm:1e300,5",
            "",
            None,
            "+" * 999,
        ],
        "optimizer": ["sgdx", "SGD", None, {}],
        "image_size": [0, 15, 100_000, -28, "28", 28.5, False],
        "model": ["gan", "vgg", None, [], {}],
        "unknown": [1],
    }
    for name, values in wrong.items():
        for value in values:
            change = partial(change_setting, name=name, value=value)
            yield f"{name}: {json.dumps(value)[:12]}", change
    yield "without a seed", partial(change_setting, name="seed", value=None, delete=True)
    yield "settings: null", partial(_write, content=b'{"settings": null}')


def change_setting(path: Path, name: str, value: Any, delete: bool = False) -> None:
    """Writes another value into a `config.json`."""
    config = json.loads(path.read_text())
    config["settings"][name] = value
    if delete:
        del config["settings"][name]
    path.write_text(json.dumps(config))


def numbers(*names: str) -> Iterator[tuple[str, Damage]]:
    """Values that numbers in a JSON file cannot have."""
    values: tuple[Any, ...] = ("0.5", None, True, [], 10**400)
    for name in names:
        for value in values:
            yield f"{name}: {str(value)[:8]}", partial(_change_number, name, value)


def _change_number(name: str, value: Any, path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))


def models() -> Iterator[tuple[str, Damage]]:
    """Damages of a `.keras` file."""
    yield "deflated", _repacked(zipfile.ZIP_DEFLATED)
    yield "deflated, broken in the middle", _deflated_broken
    yield "encrypted", _patched(1, 0)
    yield "a compression that nobody knows", _patched(99, 2)
    yield "a bomb", _bomb
    yield "without weights", _member("model.weights.h5", None)
    yield "weights of zeros", _member("model.weights.h5", bytes(3000))
    yield "without a configuration", _member("config.json", None)
    yield "a configuration, nested", _member("config.json", b"[" * 100_000)
    yield "a list for a configuration", _member("config.json", b"[]")
    yield "a layer for a model", _member("config.json", _DENSE)
    yield "a Dense layer of 94 GB", _wide("units", 25_000_000_000 // 120)
    yield "a convolution of 94 GB", _wide("filters", 940_000_000)


_DENSE = b'{"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}}'


def _wide(option: str, size: int) -> Damage:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        layers = config["config"]["layers"]
        layer = [entry for entry in layers if option in entry["config"]][-1]
        layer["config"][option] = size
        _member("config.json", json.dumps(config).encode())(path)

    return change


def _member(name: str, content: bytes | None) -> Damage:
    """Another content, or none, for a file within a zip file."""

    def change(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        members.pop(name)
        with zipfile.ZipFile(path, "w") as archive:
            for member, old in members.items():
                archive.writestr(member, old)
            if content is not None:
                archive.writestr(name, content)

    return change


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(60_000_000))


def load(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz` file."""
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def _save(path: Path, contents: dict[str, Array]) -> None:
    with path.open("wb") as file:
        np.savez(file, **cast(dict[str, Any], contents))


def _first(change: Callable[[Array], Array]) -> Damage:
    """Another array in the place of the first that is a vector of floats."""

    def damage(path: Path) -> None:
        contents = load(path)
        name = next(n for n, array in contents.items() if array.ndim == 1 and array.dtype == "f4")
        _save(path, contents | {name: change(contents[name])})

    return damage


def _repacked(method: int) -> Damage:
    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return damage


def _deflated_broken(path: Path) -> None:
    _repacked(zipfile.ZIP_DEFLATED)(path)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.compress_size)
    content = bytearray(path.read_bytes())
    start = largest.header_offset + 30 + len(largest.filename) + largest.compress_size // 2
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)


def _patched(value: int, offset: int) -> Damage:
    """Sets the flags (offset 0) or the compression (offset 2) of all entries of a zip file."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        for signature, place in (_LOCAL, _CENTRAL):
            parts = content.split(signature)
            at = place + offset - len(signature)
            patch = struct.pack("<H", value)
            parts[1:] = [part[:at] + patch + part[at + 2 :] for part in parts[1:]]
            content = signature.join(parts)
        path.write_bytes(content)

    return damage


def _header(shape: str) -> Damage:
    """Another shape in the header of an array, which is as long as before; checksums are right."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        name = next(iter(members))
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        old = members[name]
        members[name] = old[:8] + struct.pack("<H", 118) + text.encode() + old[128:]
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)

    return damage


def _twice(path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        name = archive.namelist()[0]
        archive.writestr(name, archive.read(name))
