import hashlib
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm.data import DataError, cifar10, load
from tests.data.files import (
    CIFAR_BATCHES,
    CIFAR_CLASSES,
    Bytes,
    cifar_arrays,
    cifar_folder,
    modern,
    python2,
)

pytestmark = pytest.mark.no_backend

FOLDER = "cifar-10-batches-py"
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"
ROWS, LABELS = cifar_arrays(0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Keras for one test."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras" / "datasets"


def refusal(data_dir: Path | None) -> str:
    with pytest.raises(DataError) as caught:
        load("cifar10", data_dir)
    return str(caught.value)


def protocol2(rows: Bytes, labels: list[int]) -> bytes:
    return pickle.dumps({"data": np.asfortranarray(rows), "labels": np.array(labels)}, 2)


@pytest.mark.parametrize("write", [modern, python2, protocol2])
@pytest.mark.parametrize("subfolder", ["", FOLDER, f"{FOLDER}-target/{FOLDER}"])
def test_reads_a_named_folder(
    tmp_path: Path, subfolder: str, write: Callable[[Bytes, list[int]], bytes]
) -> None:
    parent = tmp_path / "here"
    cifar_folder(parent / subfolder, write)
    dataset = load("cifar10", str(parent))
    batches = [cifar_arrays(seed) for seed in range(6)]
    rows = np.concatenate([rows for rows, _ in batches[:5]])
    assert dataset.train.images.shape == (15, 32, 32, 3)
    for channel in range(3):
        plane = rows[:, 1024 * channel : 1024 * (channel + 1)].reshape(-1, 32, 32)
        np.testing.assert_array_equal(dataset.train.images[..., channel], plane)
    assert dataset.train.labels.tolist() == sum((labels for _, labels in batches[:5]), [])
    assert dataset.test.labels.tolist() == batches[5][1]
    assert dataset.test.images[2, 31, 30, 1] == batches[5][0][2, 1024 + 31 * 32 + 30]
    assert dataset.classes == tuple(CIFAR_CLASSES)


@pytest.mark.parametrize("subfolder", [FOLDER, f"{FOLDER}-target/{FOLDER}"])
def test_reads_keras_cache(cache: Path, subfolder: str) -> None:
    cifar_folder(cache / subfolder)
    assert len(load("cifar10").train.labels) == 15


def test_a_named_folder_is_the_only_one_tried(cache: Path, tmp_path: Path) -> None:
    cifar_folder(cache / FOLDER)
    message = refusal(tmp_path / "absent")
    assert message.startswith(f"{tmp_path / 'absent'}: found no such folder; expected ")
    assert all(name in message for name in (*CIFAR_BATCHES, "batches.meta", FOLDER))
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" in message


def test_names_the_files_that_are_missing(tmp_path: Path) -> None:
    folder = cifar_folder(tmp_path / FOLDER)
    (folder / "data_batch_3").unlink()
    (folder / "batches.meta").unlink()
    assert f"found no data_batch_3, batches.meta in {folder};" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("batch", "fault"),
    [
        ({"labels": LABELS}, "found the keys ['labels']; expected the key 'data' among them"),
        ({"data": ROWS, "fine": 1}, "['data', 'fine']; expected the key 'labels' among them"),
        ({"data": [1], "labels": LABELS}, "found data of list; expected an array"),
        (
            {"data": ROWS[:, :784], "labels": LABELS},
            "found data of uint8 (3, 784); expected uint8 (N, 3072) with N at least 1",
        ),
        ({"data": ROWS.astype("i4"), "labels": LABELS}, "found data of int32 (3, 3072)"),
        ({"data": ROWS[0], "labels": [1]}, "found data of uint8 (3072,)"),
        ({"data": ROWS[:0], "labels": []}, "found data of uint8 (0, 3072)"),
        ({"data": ROWS, "labels": [1, 2]}, "found 2 labels for 3 images; expected one label for"),
        ({"data": ROWS, "labels": [1, 2, 10]}, "the label 10 at place 2; expected labels from 0"),
        ({"data": ROWS, "labels": [1, -1, 0]}, "the label -1 at place 1; expected labels from 0"),
        ({"data": ROWS, "labels": np.array([1, 2, 99])}, "found the label 99 at place 2"),
        ({"data": ROWS, "labels": [1, 2, 2**70]}, "found labels of another kind"),
        ({"data": ROWS, "labels": [1, 2, "3"]}, "found labels of another kind"),
        ({"data": ROWS, "labels": [1, 2, True]}, "found labels of another kind"),
        ({"data": ROWS, "labels": None}, "expected a list of 64-bit integers"),
    ],
)
def test_wrong_batches(tmp_path: Path, batch: dict[str, Any], fault: str) -> None:
    folder = cifar_folder(tmp_path / FOLDER)
    (folder / "data_batch_4").write_bytes(pickle.dumps(batch))
    message = refusal(folder)
    assert message.startswith(f"{folder / 'data_batch_4'}: found ")
    assert fault in message
    assert message.endswith("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz.")


@pytest.mark.parametrize(
    "names, fault",
    [
        (None, "None"),
        (["cat"] * 9, "['cat', 'cat', 'cat', 'cat', ...] of 9"),
        ([1] * 10, "[1, 1, 1, 1, ...] of 10"),
        ([b"\xff"] * 10, "of 10"),
        (["b\u00fcr"] * 10, "of 10"),
        (["a\nb"] * 10, "of 10"),
        ([""] * 10, "of 10"),
        (["a" * 101] * 10, "of 10"),
        ([2 ** (10**5), *["cat"] * 9], "[an integer of 100001 bits, 'cat'"),
        ({"cat": 1}, "a dict of 1"),
    ],
)
def test_wrong_names(tmp_path: Path, names: object, fault: str) -> None:
    folder = cifar_folder(tmp_path / FOLDER)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    message = refusal(folder)
    assert "batches.meta: found label_names " in message and fault in message
    assert "; expected 10 names in a list. " in message


@pytest.mark.parametrize("lists", [True, False])
def test_names_that_print_without_end(tmp_path: Path, lists: bool) -> None:
    """Lists of the same two lists, 60 deep: 2**60 items to print, 360 bytes to read."""
    names: Any = "cat"
    for _ in range(60):
        names = [names] * 2 if lists else {"a": names, "b": names}
    folder = cifar_folder(tmp_path / FOLDER)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [names] * 10}))
    assert f"a {'list' if lists else 'dict'} of 2" in refusal(folder)
    (folder / "batches.meta").write_bytes(pickle.dumps({f"key {n}": n for n in range(10**4)}))
    message = refusal(folder)
    assert "of 10000; expected the key 'label_names'" in message and len(message) < 500


def test_a_damaged_batch(tmp_path: Path) -> None:
    folder = cifar_folder(tmp_path / FOLDER, python2)
    path = folder / "test_batch"
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(folder).startswith(f"{path}: found a pickle that is refused (EOFError")


def test_downloads_what_is_nowhere(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Keras itself fetches, from a file in place of the address, into a cache of the test's own.
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(cifar_folder(tmp_path / "origin" / FOLDER, python2), FOLDER)
    monkeypatch.setattr(cifar10, "ORIGIN", archive.as_uri())
    cache.parent.mkdir()
    get_file = partial(keras.utils.get_file, cache_dir=str(cache.parent))
    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert "file hash does not match" in refusal(None)
    monkeypatch.setattr(cifar10, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    assert len(load("cifar10").train.labels) == 15
    archive.unlink()
    assert len(load("cifar10").train.labels) == 15


def test_a_failed_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get_file(file: str, origin: str, extract: bool, file_hash: str) -> str:
        raise Exception(f"URL fetch failure on {origin}")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    message = refusal(None)
    address = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    assert message.startswith(f"{address}: found a download that failed (Exception: URL fetch")
    assert str(cache / FOLDER) in message and "data_dir" in message


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"CIFAR-10 is not in {REAL}")
def test_the_real_images(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(REAL / "unpack_cifar10.py"), str(tmp_path)], check=True)
    dataset = load("cifar10", tmp_path)
    assert dataset.train.images.shape == (50_000, 32, 32, 3)
    assert dataset.test.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(dataset.train.labels).tolist() == [5_000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1_000] * 10
    assert dataset.classes == tuple(CIFAR_CLASSES)
    # The means that the literature normalizes by.
    means = dataset.train.images.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=1e-3)
    first = pickle.loads((tmp_path / FOLDER / "data_batch_1").read_bytes())[b"data"][0]
    np.testing.assert_array_equal(dataset.train.images[0].transpose(2, 0, 1).ravel(), first)
