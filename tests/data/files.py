"""Small files in the official layouts, made for the tests."""

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

FASHION_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
CIFAR_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def idx(array: Bytes) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def fashion_arrays(seed: int = 0) -> dict[str, Bytes]:
    random = np.random.default_rng(seed)
    sizes = {"train": 20, "t10k": 10}
    arrays = {}
    for part, size in sizes.items():
        images = random.integers(0, 256, (size, 28, 28), np.uint8)
        arrays[f"{part}-images-idx3-ubyte"] = images
        arrays[f"{part}-labels-idx1-ubyte"] = np.arange(size, dtype=np.uint8) % 10
    return arrays


def fashion_folder(folder: Path, seed: int = 0, zipped: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, array in fashion_arrays(seed).items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return folder


def cifar_arrays(seed: int, size: int = 3) -> tuple[Bytes, list[int]]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (size, 3072), np.uint8), random.integers(0, 10, size).tolist()


def modern(rows: Bytes, labels: list[int]) -> bytes:
    """Pickles a batch as Python 3 does."""
    return pickle.dumps({b"data": rows, b"labels": labels, b"filenames": [b""] * len(labels)})


def python2(rows: Bytes, labels: list[int]) -> bytes:
    """Pickles a batch as Python 2's cPickle did with protocol 2, as in the official files."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"M"
        + struct.pack("<H", rows.shape[0])
        + b"M"
        + struct.pack("<H", rows.shape[1])
        + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        + b"J\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", rows.size)
        + rows.tobytes()
        + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def cifar_meta() -> bytes:
    return pickle.dumps({b"label_names": [name.encode() for name in CIFAR_CLASSES]})


def cifar_folder(folder: Path, write: Callable[[Bytes, list[int]], bytes] = modern) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate(CIFAR_BATCHES):
        (folder / name).write_bytes(write(*cifar_arrays(seed)))
    (folder / "batches.meta").write_bytes(cifar_meta())
    return folder
