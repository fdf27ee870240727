"""`batchnorm import-tf1`."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm.models.lenet import lenet
from batchnorm.models.resnet import resnet
from tests.cli.calling import call, error
from tests.contrib.checkpoints import write
from tests.differentiate import to_numpy

LEAVES = {"kernel": "weights", "bias": "biases"}


def contrib_names(model: Any) -> dict[str, Any]:
    """A model's variables as a slim model of the same layers would have called them."""
    found = {}
    for number, variable in enumerate(model.weights):
        scope, _, name = variable.path.rpartition("/")
        if "normalization" in scope:
            scope = scope.replace("normalization", "batch_norm")
        value = np.random.default_rng(number).uniform(0.5, 1.5, variable.shape)
        found[f"{model.name}/{scope}/{LEAVES.get(name, name)}"] = value.astype("float32")
    return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a LeNet for images of 16x16; not to be changed."""
    values = contrib_names(lenet((16, 16, 1), 4)) | {"global_step": np.int64(6)}
    return write(tmp_path_factory.mktemp("checkpoint"), values)


LENET = ("--model", "lenet", "--image-shape", "16,16,1", "--classes", 4)


def test_what_is_in_a_checkpoint(checkpoint: str) -> None:
    result = call("import-tf1", Path(checkpoint).parent, "--list")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.replace("│", " ").split()) for line in result.stdout.splitlines()]
    assert "global_step () int64 global step" in lines
    assert "lenet/convolution_1/weights (5, 5, 1, 6) float32 variable" in lines


def test_a_model_is_made_loaded_and_written(checkpoint: str, tmp_path: Path) -> None:
    result = call("import-tf1", checkpoint, *LENET, "--output", "a.keras")
    assert result.exit_code == 0, result.output
    assert f"{4 * 4 + 5 * 2} loaded from" in result.stdout and "Written: a.keras" in result.stdout
    assert "convolution_1/kernel" in result.stdout and "1 left over" in result.stdout
    model = keras.models.load_model(tmp_path / "a.keras")
    expected = list(contrib_names(model).values())
    for variable, value in zip(model.weights, expected, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    assert "a.keras exists: --overwrite" in error(
        call("import-tf1", checkpoint, *LENET, "--output", "a.keras")
    )
    result = call(
        "import-tf1", checkpoint, "--model", "a.keras", "--output", "a.keras", "--overwrite"
    )
    assert result.exit_code == 0, result.output


def test_without_an_output_nothing_is_written(checkpoint: str, tmp_path: Path) -> None:
    result = call("import-tf1", checkpoint, *LENET, "--normalization", "keras")
    assert result.exit_code == 0, result.output
    assert "Nothing was written: --output names a file for the model." in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_resnet(tmp_path: Path) -> None:
    values = contrib_names(resnet((8, 8, 3), 5, 8, normalization=keras.layers.BatchNormalization))
    prefix = write(tmp_path, values)
    made = ("--model", "resnet", "--depth", 8, "--classes", 5, "--image-shape", "8,8,3")
    result = call("import-tf1", prefix, *made)
    assert result.exit_code == 0, result.output
    assert f"{len(values)} loaded" in result.stdout
    assert "does not fit the model" in error(call("import-tf1", prefix, *made, "--depth", 14))
    text = error(call("import-tf1", prefix, *made, "--depth", 21))
    assert "resnet cannot be made so: No ResNet" in text


def test_names_from_a_file(checkpoint: str, tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"logits": None}))
    result = call("import-tf1", checkpoint, *LENET, "--classes", 7, "--names", names)
    assert result.exit_code == 0, result.output
    assert "Kept as it was: logits/kernel" in result.stdout
    for content, words in (
        ('{"logitz": "a"}', "'logitz' is neither a layer nor a variable of the model. Close: logi"),
        ("{", "names.json is no JSON"),
        ("[1]", "names.json holds no dictionary"),
    ):
        names.write_text(content)
        assert words in error(call("import-tf1", checkpoint, *LENET, "--names", names))
    names.write_bytes(b"\xff")
    assert "is no JSON" in error(call("import-tf1", checkpoint, *LENET, "--names", names))
    text = error(call("import-tf1", checkpoint, *LENET, "--names", "none.json"))
    assert "none.json does not exist; expected a dictionary such as" in text


@pytest.mark.parametrize(
    "given, code, words",
    [
        ("", 2, "--model says what to load it into; --list shows"),
        ("--model lennet", 2, "did you mean 'lenet'? Allowed: lenet, resnet, FILE.keras"),
        ("--model lenet --depth 20", 2, "--depth is for --model resnet alone"),
        ("--model a.keras --image-shape 8,8,3", 2, "--image-shape describes lenet and resnet"),
        ("--model lenet --image-shape 8,8", 2, "'8,8' is no shape of an image; expected H,W,C"),
        ("--model lenet --image-shape 8,8,0", 2, "'8,8,0' is no shape"),
        ("--model lenet --image-shape 8,8,1", 1, "lenet cannot be made so: LeNet needs images"),
        ("--model lenet --normalization our", 1, "--normalization our: 'our' is unknown"),
        ("--model none.keras", 1, "none.keras does not exist"),
        ("--model bad.keras", 1, "bad.keras is damaged"),
        ("--model lenet", 1, "does not fit the model, which stays as it was"),
        ("--model lenet --shadows", 1, "it has no moving averages of variables"),
        ("--model lenet --output a.h5", 1, "a.h5 is no model's name"),
        ("--model lenet --output nowhere/a.keras", 1, "nowhere/a.keras cannot be written"),
        ("--model lenet --output folder.keras", 1, "folder.keras is a folder"),
    ],
)
def test_what_cannot_be_done(checkpoint: str, given: str, code: int, words: str) -> None:
    Path("bad.keras").write_bytes(b"garbage")
    Path("folder.keras").mkdir()
    assert words in error(call("import-tf1", checkpoint, *given.split()), code)


@pytest.mark.parametrize("option", [("--list",), LENET])
def test_no_checkpoint(tmp_path: Path, option: tuple[Any, ...]) -> None:
    assert "does not exist. Expected the prefix" in error(call("import-tf1", "none.ckpt", *option))
    (tmp_path / "bad.index").write_bytes(b"garbage")
    (tmp_path / "bad.data-00000-of-00001").write_bytes(b"garbage")
    assert "bad is damaged, or no checkpoint" in error(call("import-tf1", "bad", *option))
