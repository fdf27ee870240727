import gzip
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from batchnorm.data import DataError, fashion_mnist, load
from tests.data.files import FASHION_FILES, Bytes, fashion_arrays, fashion_folder, idx

pytestmark = pytest.mark.no_backend

INSTALLED = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras's cache and the system's folder, both empty, for one test."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM", tmp_path / "system")
    return tmp_path / "keras" / "datasets" / "fashion-mnist"


def refusal(data_dir: Path | None) -> str:
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", data_dir)
    return str(caught.value)


def replace(folder: Path, name: str, array: Bytes) -> Path:
    path = folder / f"{name}.gz"
    path.write_bytes(gzip.compress(idx(array)))
    return path


def seed_of(answer: Bytes) -> int:
    """Returns the seed of the data set that an answer came from."""
    names = [fashion_arrays(seed)[FASHION_FILES[0]][..., None] for seed in range(5)]
    return next(seed for seed, images in enumerate(names) if np.array_equal(images, answer))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("subfolder", ["", "fashion-mnist"])
def test_reads_a_named_folder(tmp_path: Path, subfolder: str, zipped: bool) -> None:
    parent = tmp_path / "here"
    fashion_folder(parent / subfolder, zipped=zipped)
    dataset = load("fashion-mnist", str(parent))
    arrays = fashion_arrays()
    for split, part in ((dataset.train, "train"), (dataset.test, "t10k")):
        np.testing.assert_array_equal(split.images[..., 0], arrays[f"{part}-images-idx3-ubyte"])
        np.testing.assert_array_equal(split.labels, arrays[f"{part}-labels-idx1-ubyte"])
    assert dataset.train.images.shape == (20, 28, 28, 1)
    assert dataset.classes[0] == "T-shirt/top" and dataset.classes[9] == "Ankle boot"


def test_reads_a_folder_under_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fashion_folder(tmp_path / "mine")
    assert len(load("fashion-mnist", "~/mine").test.labels) == 10


def test_places_in_their_order(cache: Path, tmp_path: Path) -> None:
    fashion_folder(tmp_path / "system" / "fashion-mnist", seed=2)
    assert seed_of(load("fashion-mnist").train.images) == 2
    fashion_folder(cache, seed=1)
    assert seed_of(load("fashion-mnist").train.images) == 1
    named = fashion_folder(tmp_path / "named", seed=0)
    assert seed_of(load("fashion-mnist", named).train.images) == 0
    (cache / "t10k-labels-idx1-ubyte.gz").unlink()
    assert seed_of(load("fashion-mnist").train.images) == 2


def test_keras_home_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(fashion_mnist, "SYSTEM", tmp_path / "system")
    fashion_folder(tmp_path / ".keras" / "datasets" / "fashion-mnist", seed=3)
    assert seed_of(load("fashion-mnist").train.images) == 3


def test_a_named_folder_is_the_only_one_tried(cache: Path, tmp_path: Path) -> None:
    fashion_folder(cache)
    message = refusal(tmp_path / "absent")
    assert message.startswith(f"{tmp_path / 'absent'}: found no such folder; expected ")
    assert all(f"{name}.gz" in message for name in FASHION_FILES)
    assert "or in its subfolder fashion-mnist" in message
    assert "apt-get install dataset-fashion-mnist" in message
    (tmp_path / "empty").mkdir()
    assert "found none of the files" in refusal(tmp_path / "empty")
    (tmp_path / "file").touch()
    assert "found a file, not a folder" in refusal(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert f"found a link to {tmp_path / 'nowhere'}, which does not" in refusal(tmp_path / "link")


def test_names_the_files_that_are_missing(tmp_path: Path) -> None:
    folder = fashion_folder(tmp_path / "fashion-mnist")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert f"found no t10k-labels-idx1-ubyte.gz in {folder};" in refusal(tmp_path)


def test_wrong_size(tmp_path: Path) -> None:
    folder = fashion_folder(tmp_path / "here")
    path = replace(folder, "train-images-idx3-ubyte", np.zeros((20, 32, 30), np.uint8))
    message = refusal(folder)
    assert message.startswith(f"{path}: found images of 32 by 30; expected 28 by 28. ")
    assert "https://github.com/zalandoresearch/fashion-mnist" in message


def test_wrong_label(tmp_path: Path) -> None:
    folder = fashion_folder(tmp_path / "here")
    labels = np.arange(20, dtype=np.uint8) // 2
    labels[7] = 10
    path = replace(folder, "train-labels-idx1-ubyte", labels)
    expected = f"{path}: found the label 10 at place 7; expected labels from 0 to 9. "
    assert refusal(folder).startswith(expected)


def test_wrong_count(tmp_path: Path) -> None:
    folder = fashion_folder(tmp_path / "here")
    path = replace(folder, "t10k-labels-idx1-ubyte", np.zeros(9, np.uint8))
    expected = (
        f"{path}: found 9 labels for the 10 images of t10k-images-idx3-ubyte.gz; expected one "
        "label for each image. "
    )
    assert refusal(folder).startswith(expected)


def test_damage_is_told_apart_from_absence(cache: Path) -> None:
    fashion_folder(cache)
    path = cache / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    message = refusal(None)
    assert message.startswith(f"{path}: found one that cannot be read (EOFError")
    assert "one in Keras's cache may be deleted" in message


def test_downloads_what_is_nowhere(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Keras itself fetches, from a folder in place of the address, into a cache of the test's own.
    origin = fashion_folder(tmp_path / "origin", seed=4)
    monkeypatch.setattr(fashion_mnist, "ORIGIN", f"{origin.as_uri()}/")
    home = cache.parents[1]
    home.mkdir()
    get_file = partial(keras.utils.get_file, cache_dir=str(home))
    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert seed_of(load("fashion-mnist").train.images) == 4
    assert len(list(cache.iterdir())) == 4
    (origin / "t10k-labels-idx1-ubyte.gz").unlink()
    assert seed_of(load("fashion-mnist").train.images) == 4


def test_a_failed_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def get_file(file: str, origin: str, cache_subdir: str) -> str:
        requests.append((file, origin, cache_subdir))
        raise Exception(f"URL fetch failure on {origin}")

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    message = refusal(None)
    file = "train-images-idx3-ubyte.gz"
    address = f"https://storage.googleapis.com/tensorflow/tf-keras-datasets/{file}"
    assert requests == [(file, address, "datasets/fashion-mnist")]
    assert message.startswith(f"{address}: found a download that failed (Exception: URL fetch")
    assert str(cache) in message and "data_dir" in message
    assert "`apt-get install dataset-fashion-mnist`" in message


@pytest.mark.skipif(not INSTALLED.is_dir(), reason=f"Fashion-MNIST is not in {INSTALLED}")
def test_the_real_files() -> None:
    dataset = load("fashion-mnist", INSTALLED)
    assert dataset.train.images.shape == (60_000, 28, 28, 1)
    assert dataset.test.images.shape == (10_000, 28, 28, 1)
    assert np.bincount(dataset.train.labels).tolist() == [6_000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1_000] * 10
    # The mean that the literature normalizes by.
    assert dataset.train.images.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert [dataset.classes[label] for label in dataset.train.labels[:2]] == [
        "Ankle boot",
        "T-shirt/top",
    ]
