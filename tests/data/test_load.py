import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import batchnorm.data
from batchnorm.data import NAMES, DataError, classes, load
from tests.data.made import cifar_folder, fashion_folder


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
    assert f"the nearest name is {nearest!r}" in message
    assert all(repr(name) in message for name in NAMES)


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
