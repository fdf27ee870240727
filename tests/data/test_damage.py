"""Every data file, damaged: the same images, or an error that names the file and the fix."""

import gzip
import io
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchnorm.data import DataError, Dataset, load, sample
from tests.data.files import (
    CIFAR_BATCHES,
    FASHION_FILES,
    Bytes,
    cifar_folder,
    fashion_folder,
    idx,
    modern,
    python2,
)

pytestmark = pytest.mark.no_backend

Damage = Callable[[bytes], bytes]


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


ZEROS = np.zeros((30, 28, 28), np.uint8)
FOREIGN = (
    b"",
    b"\0",
    bytes(10**5),
    b"\xff" * 10**5,
    b"<!DOCTYPE html><title>404 Not Found</title>" * 50,
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    b"\x89PNG\r\n\x1a\n" + bytes(99),
    b"PK\x05\x06" + bytes(18),
    b"[" * 10**5,
    gzip.compress(b""),
    gzip.compress(bytes(10**7)),
    gzip.compress(gzip.compress(idx(ZEROS))),
    idx(ZEROS),
    npy(ZEROS),
    zipped(train_images=npy(ZEROS)),
    zipped(**dict.fromkeys(("train_images", "train_labels", "test_images", "test_labels"), b"")),
    *(pickle.dumps(value) for value in (None, {}, {"data": None}, {b"label_names": ["a"] * 10})),
    pickle.dumps({"data": np.zeros((3, 3072)), "labels": [0.0, 1.0, 2.0]}),
    pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": {}}, 0),
)


def cut(place: int) -> Damage:
    return lambda content: content[: place % len(content)]


def flip(place: int, mask: int) -> Damage:
    def damage(content: bytes) -> bytes:
        at = place % len(content)
        return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]

    return damage


def insert(place: int, extra: bytes) -> Damage:
    return lambda content: content[: place % len(content)] + extra + content[place % len(content) :]


def repeat(place: int, count: int) -> Damage:
    """Repeats a part of a file, and cuts its end to the old length."""

    def damage(content: bytes) -> bytes:
        at = place % len(content)
        return (content[:at] + content[at : at + count] + content[at:])[: len(content)]

    return damage


def foreign(content: bytes) -> Damage:
    return lambda _: content


# The beginning of a file has its header and the instructions of a pickle, the end its checksum.
places = st.one_of(st.integers(0, 200), st.integers(0, 10**6), st.integers(-40, -1))
damages = st.one_of(
    st.builds(cut, places),
    st.builds(flip, places, st.integers(1, 255)),
    st.builds(insert, places, st.binary(min_size=1, max_size=20)),
    st.builds(repeat, places, st.integers(1, 64)),
    st.sampled_from(FOREIGN).map(foreign),
)


class Kind(NamedTuple):
    """A data set in one of its file formats.

    Attributes:
        write: makes its folder.
        files: the names of its files.
        checked: whether they have checksums, so that no damage stays unseen.
        remedy: what an error says.
    """

    name: str
    write: Callable[[Path], Path]
    files: tuple[str, ...]
    checked: bool
    remedy: str


FASHION = partial(Kind, "fashion-mnist", remedy="Replace the file by the official one")
CIFAR = partial(
    Kind,
    "cifar10",
    files=(*CIFAR_BATCHES, "batches.meta"),
    checked=False,
    remedy="Replace the folder cifar-10-batches-py by the official one",
)
KINDS = {
    "gzip": FASHION(fashion_folder, tuple(f"{name}.gz" for name in FASHION_FILES), True),
    "idx": FASHION(lambda folder: fashion_folder(folder, zipped=False), FASHION_FILES, False),
    "python 3": CIFAR(lambda folder: cifar_folder(folder, modern)),
    "python 2": CIFAR(lambda folder: cifar_folder(folder, python2)),
}


def check(actual: Dataset, intact: Dataset, checked: bool) -> None:
    for split, expected in ((actual.train, intact.train), (actual.test, intact.test)):
        if checked:
            np.testing.assert_array_equal(split.images, expected.images)
            np.testing.assert_array_equal(split.labels, expected.labels)
        assert split.images.shape == (len(split.labels), *expected.images.shape[1:])
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
        assert 0 <= split.labels.min() and split.labels.max() < 10
    assert len(actual.classes) == 10 and all(map(str.isprintable, actual.classes))


def refuse(error: DataError, name: str, remedy: str) -> None:
    message = str(error)
    assert name in message.split("; expected ")[0] and remedy in message, message
    assert message.isprintable() and len(message) < 1200, message


@pytest.mark.parametrize("case", KINDS)
def test_damaged_files(case: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    kind = KINDS[case]
    folder = kind.write(tmp_path_factory.mktemp("data") / "folder")
    intact = load(kind.name, folder)

    @settings(
        max_examples=120, deadline=10_000, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(kind.files), damages)
    def damaged(name: str, damage: Damage) -> None:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(damage(content))
        try:
            check(load(kind.name, folder), intact, kind.checked)
        except DataError as error:
            refuse(error, name, kind.remedy)
        finally:
            path.write_bytes(content)

    damaged()


@settings(max_examples=120, deadline=10_000, derandomize=True)
@given(damages)
def test_a_damaged_sample(damage: Damage) -> None:
    rows: dict[str, Bytes] = {
        "train_images": np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28, 1),
        "train_labels": np.array([1, 9], np.uint8),
        "test_images": np.ones((1, 28, 28, 1), np.uint8),
        "test_labels": np.array([3], np.uint8),
    }
    content = zipped(**{name: npy(array) for name, array in rows.items()})
    try:
        check(sample.parse(damage(content)), sample.parse(content), checked=True)
    except DataError as error:
        refuse(error, sample.FILE, "Install batchnorm again")
