"""Paths of checkpoints, and files that are not checkpoints."""

import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from batchnorm.contrib.checkpoint.saver_file import Entry, open_checkpoint
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
        variable = v1.get_variable("a/weights", (5, 3), partitioner=v1.fixed_size_partitioner(2))
        session.run(v1.global_variables_initializer())
        expected = session.run(tf.convert_to_tensor(variable))
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
    with pytest.raises(FileNotFoundError, match="00000-of-00003, .*00002-of-00003 are missing"):
        open_checkpoint(tmp_path / "only")
    index = Path(f"{prefix}.index")
    index.unlink()
    with pytest.raises(FileNotFoundError, match=r"data-00000-of-00001 exists, but .*6.index does"):
        open_checkpoint(f"{prefix}.data-00000-of-00001")


def test_damaged_and_foreign_files(prefix: Path, tmp_path: Path) -> None:
    data, index = Path(f"{prefix}.data-00000-of-00001"), Path(f"{prefix}.index")
    content = data.read_bytes()
    for damaged in (content[:10], bytes([content[0] ^ 1]) + content[1:]):
        data.write_bytes(damaged)
        with pytest.raises(ValueError, match="model.ckpt-6 is damaged: a/weights cannot be read"):
            open_checkpoint(prefix).read("a/weights")
    for garbage in (b"", b"garbage" * 30):
        index.write_bytes(garbage)
        with pytest.raises(ValueError, match="6.index is damaged, or no checkpoint.*Copy the fil"):
            open_checkpoint(prefix)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"garbage" * 30, "Copy the files of the checkpoint again"),
        (b"\x89HDF\r\n" + bytes(99), "It is HDF5: keras.models.load_model"),
        (b"PK\x03\x04" + bytes(99), "It is a ZIP archive"),
        (b"\x80\x02ctorch._utils" + bytes(99), "It is a pickle, as PyTorch writes"),
        (b"", "Copy the files of the checkpoint again"),
        (b"\n" * 5000, "Copy the files of the checkpoint again"),
    ],
)
def test_files_of_others(tmp_path: Path, content: bytes, words: str) -> None:
    for name in ("weights.h5", "model.index"):
        (tmp_path / name).write_bytes(content)
        (tmp_path / "model.data-00000-of-00001").write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is damaged, or no checkpoint.*{words}") as e:
            open_checkpoint(tmp_path / name)
        assert "\n" not in str(e.value) and len(str(e.value)) < 600


def test_every_damaged_byte_of_an_index_is_an_error_or_does_no_harm(
    prefix: Path, kernel: Array
) -> None:
    index = Path(f"{prefix}.index")
    content, errors = index.read_bytes(), 0
    for place in range(0, len(content), 3):
        index.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            np.testing.assert_array_equal(open_checkpoint(prefix).read("a/weights"), kernel)
        except ValueError as error:
            errors += 1
            assert "damaged" in str(error) and "\n" not in str(error)
    assert errors > len(content) / 6


def test_a_variable_that_is_larger_than_the_files(prefix: Path) -> None:
    file = open_checkpoint(prefix)
    for dtype in ("float32", "bfloat16", "int64"):
        file.entries["a/weights"] = Entry((10**6, 10**6), dtype)
        with pytest.raises(ValueError, match=r"be read \(its shape.*000 bytes, all"):
            file.read("a/weights")


@pytest.fixture
def slash(tmp_path: Path, kernel: Array) -> Path:
    """The folder that a Saver has written to by the prefix `folder/`."""
    (tmp_path / "slash").mkdir()
    assert write(tmp_path, {"a/weights": kernel}, "slash/") == f"{tmp_path}/slash/"
    return tmp_path / "slash"


@pytest.mark.parametrize("state", ["as it was written", "moved", "absent"])
def test_a_prefix_that_ends_in_a_slash(slash: Path, kernel: Array, state: str) -> None:
    if state == "moved":
        (slash / "checkpoint").write_text('model_checkpoint_path: "/home/nobody/run/"')
    elif state == "absent":
        (slash / "checkpoint").unlink()
    for path in (slash, f"{slash}/", f"{slash}/.index", f"{slash}/.data-00000-of-00001"):
        file = open_checkpoint(path)
        assert file.prefix == f"{slash}/"
        np.testing.assert_array_equal(file.read("a/weights"), kernel)


def test_the_working_directory_as_a_prefix(
    slash: Path, kernel: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(slash)
    for path in (".index", ".", "./"):
        np.testing.assert_array_equal(open_checkpoint(path).read("a/weights"), kernel)


def test_a_prefix_that_ends_in_a_slash_is_not_shown_as_an_empty_name(slash: Path) -> None:
    (slash / "checkpoint").unlink()
    for ending in ("index", "data-00000-of-00001"):
        shutil.copy(slash / f".{ending}", slash / f"model.ckpt-1.{ending}")
    with pytest.raises(FileNotFoundError, match=f"there is: {slash}/, model.ckpt-1"):
        open_checkpoint(slash)
    (slash / ".data-00000-of-00001").unlink()
    with pytest.raises(FileNotFoundError, match=f"{slash}/.data-00000-of-00001 is missing"):
        open_checkpoint(f"{slash}/")


def test_a_folder_that_was_moved_and_one_of_the_prefix_s_name(prefix: Path, kernel: Array) -> None:
    (prefix.parent / "checkpoint").write_text('model_checkpoint_path: "/nowhere/model.ckpt-3"')
    assert open_checkpoint(prefix.parent).prefix == str(prefix.parent / "model.ckpt-3")
    prefix.mkdir()
    np.testing.assert_array_equal(open_checkpoint(prefix).read("a/weights"), kernel)
    for junk in (b"\xff\xfejunk", b"junk", b""):
        (prefix.parent / "checkpoint").write_bytes(junk)
        with pytest.raises(FileNotFoundError, match="model.ckpt-3, model.ckpt-6"):
            open_checkpoint(prefix.parent)


def test_the_folder_of_a_saved_model(tmp_path: Path, kernel: Array) -> None:
    (tmp_path / "variables").mkdir()
    write(tmp_path / "variables", {"a/weights": kernel}, "variables")
    (tmp_path / "saved_model.pb").write_bytes(b"")
    np.testing.assert_array_equal(open_checkpoint(tmp_path).read("a/weights"), kernel)


@pytest.mark.parametrize("count", [3, 1000, 99_999_999])
def test_shards_that_are_missing_are_not_counted_one_by_one(tmp_path: Path, count: int) -> None:
    (tmp_path / "m.index").write_bytes(b"")
    (tmp_path / f"m.data-{1:05d}-of-{count:05d}").write_bytes(b"")
    (tmp_path / "m.data-00000-of-00000").write_bytes(b"")
    started = time.monotonic()
    with pytest.raises(FileNotFoundError, match="m.data-00000-of-0*") as caught:
        open_checkpoint(tmp_path / "m")
    text = str(caught.value)
    assert time.monotonic() - started < 5 and len(text) < 1000 and "missing beside" in text
    assert (f"and {count - 4} more files are missing" in text) == (count > 4)


def test_shards_of_an_earlier_save_beside_whole_ones(prefix: Path, kernel: Array) -> None:
    Path(f"{prefix}.data-00001-of-00007").write_bytes(b"")
    np.testing.assert_array_equal(open_checkpoint(prefix).read("a/weights"), kernel)


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
