import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import batchnorm.data
from batchnorm.data import NAMES, DataError, classes, load
from tests.data.files import cifar_folder, fashion_folder

pytestmark = pytest.mark.no_backend


def test_names() -> None:
    assert NAMES == ("fashion-mnist-sample", "fashion-mnist", "cifar10")


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("fashon-mnist", "fashion-mnist"),
        ("cifar-10", "cifar10"),
        ("mnist", "fashion-mnist"),
        ("sample", "fashion-mnist-sample"),
    ],
)
def test_unknown_name(wrong: str, nearest: str) -> None:
    with pytest.raises(ValueError) as caught:
        load(wrong)
    message = str(caught.value)
    with pytest.raises(ValueError) as caught:
        classes(wrong)
    assert str(caught.value) == message
    assert repr(wrong) in message
    assert f"did you mean {nearest!r}?" in message
    assert all(repr(name) in message for name in NAMES)


@pytest.mark.parametrize("wrong", ["imagenet", "", "a" * 10**6, 5, None, ["cifar10"], "\x1b[31m"])
def test_a_name_that_resembles_none_gets_no_suggestion(wrong: Any) -> None:
    with pytest.raises(ValueError) as caught:
        load(wrong)
    message = str(caught.value)
    assert "did you mean" not in message and "Allowed are 'fashion-mnist-sample'" in message
    assert len(message) < 250 and message.isprintable()


def test_a_data_set_shows_its_shapes(tmp_path: Path) -> None:
    folder = cifar_folder(tmp_path / "here")
    assert repr(load("cifar10", folder)) == (
        "Dataset(name='cifar10', train=Split(images=uint8 (15, 32, 32, 3), labels=int64 (15,)), "
        "test=Split(images=uint8 (3, 32, 32, 3), labels=int64 (3,)), "
        "classes=['airplane', 'automobile', 'bird', 'cat', ...] of 10)"
    )
    dataset = load("fashion-mnist-sample")
    assert "(6000, 28, 28, 1)" in repr(dataset)
    many = dataset._replace(name="a" * 999, classes=("b" * 999,) * 999)
    assert len(repr(many)) < 700


def test_each_name_loads_its_data_set(tmp_path: Path) -> None:
    fashion_folder(tmp_path / "fashion-mnist")
    cifar_folder(tmp_path / "cifar-10-batches-py")
    for name in NAMES:
        dataset = load(name, tmp_path)
        assert dataset.name == name
        assert len(dataset.classes) == 10
        assert classes(name) == dataset.classes
        for split in (dataset.train, dataset.test):
            assert split.images.dtype == "uint8" and split.images.ndim == 4
            assert split.labels.dtype == "int64"
            assert split.labels.shape == (len(split.images),)
            assert split.images.flags.writeable


def test_a_data_error_is_bounded_and_printable() -> None:
    error = DataError("file", f"it says {'a' * 10**6} \x1b[31m\n", "that", "Do so.")
    assert len(str(error)) < 500
    assert str(error).isprintable() and str(error).endswith("\\x1b[31m\\n; expected that. Do so.")


def test_data_error_survives_pickling() -> None:
    error = DataError(Path("file"), "this", "that", "Do so.")
    assert str(error) == "file: found this; expected that. Do so."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert isinstance(error, ValueError)


def test_no_backend_is_loaded() -> None:
    # The parent package imports Keras for its layers, so an empty one stands in for it here.
    program = """if True:
        import sys, types
        parent = types.ModuleType("batchnorm")
        parent.__path__ = [sys.argv[1]]
        sys.modules["batchnorm"] = parent
        from batchnorm.data import load
        load("fashion-mnist-sample")
        print({"keras", "tensorflow", "jax", "torch"} & set(sys.modules))
    """
    package = Path(batchnorm.data.__file__).parents[1]
    command = [sys.executable, "-B", "-c", program, str(package)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"
