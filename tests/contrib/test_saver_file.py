"""Checkpoints that are found, and files that are none."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from batchnorm.contrib.checkpoint.saver_file import open_checkpoint
from batchnorm.contrib.load_checkpoint import load_checkpoint
from tests.contrib.checkpoints import numbers, stack, write
from tests.differentiate import Array


@pytest.fixture
def kernel() -> Array:
    return numbers(4, 3)


@pytest.fixture
def prefix(tmp_path: Path, kernel: Array) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    write(folder, {"a/weights": kernel}, "model.ckpt-3")
    return Path(write(folder, {"a/weights": kernel}, "model.ckpt-6"))


@pytest.mark.parametrize(
    "name",
    [
        "model.ckpt-6",
        "model.ckpt-6.index",
        "model.ckpt-6.meta",
        "",
        "model.ckpt-6.data-00000-of-00001",
    ],
)
def test_a_checkpoint_by_any_of_its_names(prefix: Path, kernel: Array, name: str) -> None:
    for path in (prefix.parent / name, str(prefix.parent / name)):
        file = open_checkpoint(path)
        assert Path(file.prefix) == prefix
        assert file.entries == {"a/weights": ((4, 3), "float32")}
        np.testing.assert_array_equal(file.read("a/weights"), kernel)


def test_format_v1(tmp_path: Path, kernel: Array) -> None:
    import tensorflow as tf

    version = tf.compat.v1.train.SaverDef.V1
    (tmp_path / "checkpoint").write_text("")  # which the Saver then takes the folder for one by
    prefix = write(tmp_path, {"a/weights": kernel}, write_version=version)
    assert not Path(f"{prefix}.index").exists()
    for path in (prefix, f"{prefix}.meta", tmp_path):
        np.testing.assert_array_equal(open_checkpoint(path).read("a/weights"), kernel)


def test_slices_are_joined(tmp_path: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        whole = v1.get_variable("a/weights", (5, 3), partitioner=v1.fixed_size_partitioner(2))
        session.run(v1.global_variables_initializer())
        expected = session.run(tf.convert_to_tensor(whole))
        prefix = v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    file = open_checkpoint(prefix)
    assert list(file.entries) == ["a/weights"]
    np.testing.assert_array_equal(file.read("a/weights"), expected)


def test_what_is_missing_and_what_is_nearby(prefix: Path, tmp_path: Path) -> None:
    for path in (prefix.parent / "model.ckpt-7", prefix.parent / "model.ckpt-7.index"):
        with pytest.raises(FileNotFoundError, match="does not exist.*model.ckpt-3, model.ckpt-6"):
            open_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        open_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        open_checkpoint(tmp_path / "nowhere" / "model.ckpt")
    with pytest.raises(ValueError, match="only says which.*model.ckpt-3, model.ckpt-6"):
        open_checkpoint(prefix.parent / "checkpoint")
    (prefix.parent / "checkpoint").unlink()
    with pytest.raises(FileNotFoundError, match="latest.*model.ckpt-3, model.ckpt-6"):
        open_checkpoint(prefix.parent)


def test_a_file_of_another_checkpoint_is_missing(prefix: Path, tmp_path: Path) -> None:
    shutil.copy(f"{prefix}.index", tmp_path / "only.index")
    with pytest.raises(FileNotFoundError, match=r"only.data-00000-of-00001 is missing"):
        open_checkpoint(tmp_path / "only")
    (tmp_path / "only.data-00001-of-00003").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="00000-of-00003, .*00002-of-00003 is missing"):
        open_checkpoint(tmp_path / "only")
    index = Path(f"{prefix}.index")
    index.unlink()
    with pytest.raises(FileNotFoundError, match=r"data-00000-of-00001 exists, but .*6.index does"):
        open_checkpoint(f"{prefix}.data-00000-of-00001")


def test_damaged_and_foreign_files(prefix: Path, tmp_path: Path) -> None:
    data, index = Path(f"{prefix}.data-00000-of-00001"), Path(f"{prefix}.index")
    whole = data.read_bytes()
    for damaged in (whole[:10], bytes([whole[0] ^ 1]) + whole[1:]):
        data.write_bytes(damaged)
        with pytest.raises(ValueError, match="model.ckpt-6 is damaged: a/weights cannot be read"):
            open_checkpoint(prefix).read("a/weights")
    for garbage in (b"", b"garbage" * 30):
        index.write_bytes(garbage)
        with pytest.raises(ValueError, match="is damaged, or no checkpoint"):
            open_checkpoint(prefix)
    (tmp_path / "weights.h5").write_bytes(b"garbage" * 30)
    with pytest.raises(ValueError, match="weights.h5 is damaged, or no checkpoint"):
        open_checkpoint(tmp_path / "weights.h5")


def test_a_checkpoint_of_objects(tmp_path: Path) -> None:
    import tensorflow as tf

    tf.train.Checkpoint(kernel=tf.Variable(1.0)).write(str(tmp_path / "objects"))
    with pytest.raises(ValueError, match="written by tf.train.Checkpoint or Model.save_weights"):
        open_checkpoint(tmp_path / "objects")


def test_without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    model = stack(keras.layers.Dense(2), shape=(4,))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"pip install 'batchnorm\[tensorflow\]'"):
        load_checkpoint(tmp_path, model)
