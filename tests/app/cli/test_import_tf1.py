"""`batchnorm import-tf1`."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm.models.lenet import lenet
from batchnorm.models.resnet import resnet
from tests.app.cli.calling import call, error
from tests.contrib.checkpoints import write
from tests.differentiate import to_numpy

LEAVES = {"kernel": "weights", "bias": "biases"}


def contrib_names(model: Any) -> dict[str, Any]:
    """A model's variables as a slim model of the same layers would have called them."""
    arrays = {}
    for number, variable in enumerate(model.weights):
        scope, _, name = variable.path.rpartition("/")
        if "normalization" in scope:
            scope = scope.replace("normalization", "batch_norm")
        value = np.random.default_rng(number).uniform(0.5, 1.5, variable.shape)
        arrays[f"{model.name}/{scope}/{LEAVES.get(name, name)}"] = value.astype("float32")
    return arrays


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a LeNet for images of 16x16; not to be changed."""
    values = contrib_names(lenet((16, 16, 1), 4)) | {"global_step": np.int64(6)}
    return write(tmp_path_factory.mktemp("checkpoint"), values)


LENET = ("--model", "lenet", "--image-shape", "16,16,1", "--classes", 4)


def test_what_is_in_a_checkpoint(checkpoint: str) -> None:
    result = call("import-tf1", Path(checkpoint).parent, "--list")
    assert result.exit_code == 0, result.output
    rows = [tuple(line.split("\t")) for line in result.stdout.splitlines()]
    assert len(rows) == 4 * 4 + 5 * 2 + 1
    assert ("global_step", "()", "int64", "global step") in rows
    assert ("lenet/convolution_1/weights", "(5, 5, 1, 6)", "float32", "kernel") in rows
    assert ("lenet/batch_norm_1/moving_mean", "(6,)", "float32", "moving_mean") in rows


@pytest.mark.parametrize("columns", ["200", "80", "20"])
def test_names_in_a_pipe_are_whole_whatever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    names = ("scope/" * 30 + "weights", "a[bold]b/biases", "run:100:x/gamma", "tab\there/beta")
    prefix = write(tmp_path, dict.fromkeys(names, np.zeros(3, "float32")))
    monkeypatch.setenv("COLUMNS", columns)
    result = call("import-tf1", prefix, "--list")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == sorted(
        name.replace("\t", "\\t") for name in names
    )
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    result = call("import-tf1", prefix, "--list")
    assert result.exit_code == 0 and "\t" not in result.stdout and "┃" in result.stdout


def test_a_model_is_made_loaded_and_written(checkpoint: str, tmp_path: Path) -> None:
    result = call("import-tf1", checkpoint, *LENET, "--output", "a.keras")
    assert result.exit_code == 0, result.output
    assert f"{4 * 4 + 5 * 2} loaded from" in result.stdout and "Written: a.keras" in result.stdout
    assert "\nconvolution_1/kernel\t(5, 5, 1, 6)\tlenet/convolution_1/weights\t" in result.stdout
    assert "\n1 left over\nglobal_step\t()\tglobal step\n" in result.stdout
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
    options = ("--model", "resnet", "--depth", 8, "--classes", 5, "--image-shape", "8,8,3")
    result = call("import-tf1", prefix, *options)
    assert result.exit_code == 0, result.output
    assert f"{len(values)} loaded" in result.stdout
    assert "does not fit the model" in error(call("import-tf1", prefix, *options, "--depth", 14))
    text = error(call("import-tf1", prefix, *options, "--depth", 21))
    assert "resnet cannot be built: No ResNet" in text


def test_names_from_a_file(checkpoint: str, tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"logits": None}))
    result = call("import-tf1", checkpoint, *LENET, "--classes", 7, "--names", names)
    assert result.exit_code == 0, result.output
    assert "Unchanged: logits/kernel" in result.stdout
    for content, words in (
        ('{"logitz": "a"}', "'logitz' is neither a layer nor a variable of the model. Close: logi"),
        ("{", "names.json is damaged (Expecting property name"),
        ("[1]", "names.json is damaged (it holds [1], expected an object): expected a dictionary"),
        ('{"logits": 5}', 'names.json has 5 for "logits": expected a dictionary from names to na'),
        ('{"logits": ["a"]}', 'names.json has ["a"] for "logits": expected a dictionary'),
        ("[" * 10**5, "names.json is damaged ("),
    ):
        names.write_text(content)
        assert words in error(call("import-tf1", checkpoint, *LENET, "--names", names))
    names.write_bytes(b"\xff")
    assert "names.json is damaged (" in error(
        call("import-tf1", checkpoint, *LENET, "--names", names)
    )
    text = error(call("import-tf1", checkpoint, *LENET, "--names", "none.json"))
    assert (
        "none.json does not exist: expected a dictionary from names to names or null, such" in text
    )


@pytest.mark.parametrize(
    "options, code, words",
    [
        ("", 2, "--model names a model to load into; --list lists"),
        ("--model lennet", 2, "did you mean 'lenet'? Allowed: lenet, resnet, FILE.keras"),
        ("--model lenet --depth 20", 2, "--depth is for --model resnet alone"),
        (
            "--model a.keras --image-shape 8,8,3",
            2,
            "--image-shape is for lenet and resnet",
        ),
        (
            "--model lenet --image-shape 8,8",
            2,
            "'8,8' is not the shape of an image; expected H,W,C",
        ),
        ("--model lenet --image-shape 8,8,0", 2, "'8,8,0' is not the shape"),
        ("--model lenet --image-shape 8,8,1025", 2, "each from 1 to 1,024"),
        (f"--model lenet --image-shape {'9' * 5000},8,1", 2, "each from 1 to 1,024"),
        ("--model lenet --image-shape ²,8,1", 2, "each from 1 to 1,024"),
        ("--model lenet --classes 99999999999999", 2, "--classes"),
        ("--model resnet --depth 100000", 2, "--depth"),
        ("--model vgg", 2, "'vgg' is unknown. Allowed: lenet, resnet, FILE.keras"),
        ("--model lenet --image-shape 8,8,1", 1, "lenet cannot be built: LeNet needs images"),
        ("--model lenet --normalization our", 1, "--normalization our: 'our' is unknown"),
        ("--model none.keras", 1, "none.keras does not exist"),
        ("--model bad.keras", 1, "bad.keras is damaged"),
        ("--model lenet", 1, "does not fit the model, which stays as it was"),
        ("--model lenet --shadows", 1, "it has no moving averages of variables"),
        ("--model lenet --output a.h5", 1, "a.h5 is not a model's name"),
        ("--model lenet --output nowhere/a.keras", 1, "nowhere/a.keras cannot be written"),
        ("--model lenet --output folder.keras", 1, "folder.keras is a folder"),
    ],
)
def test_what_cannot_be_done(checkpoint: str, options: str, code: int, words: str) -> None:
    Path("bad.keras").write_bytes(b"garbage")
    Path("folder.keras").mkdir()
    assert words in error(call("import-tf1", checkpoint, *options.split()), code)


@pytest.mark.parametrize("option", [("--list",), LENET])
def test_no_checkpoint(tmp_path: Path, option: tuple[Any, ...]) -> None:
    assert "does not exist. Expected the prefix" in error(call("import-tf1", "none.ckpt", *option))
    (tmp_path / "bad.index").write_bytes(b"garbage")
    (tmp_path / "bad.data-00000-of-00001").write_bytes(b"garbage")
    assert "bad.index is damaged, or no checkpoint" in error(call("import-tf1", "bad", *option))


def hint_of(text: str) -> dict[str, str | None]:
    """The names that an error suggests, which must be in JSON."""
    assert not any(word in text for word in ("names={", "None", "shadows=True")), text
    (line,) = [line for line in text.splitlines() if line.startswith("{")]
    names: dict[str, str | None] = json.loads(line)
    return names


def test_a_hint_is_what_the_command_takes(tmp_path: Path) -> None:
    """Applied as it stands, a hint loads the checkpoint."""
    values = contrib_names(lenet((16, 16, 1), 4))
    values["other/weights"] = values.pop("lenet/dense_3/weights")
    values["other/biases"] = values.pop("lenet/dense_3/biases")
    del values["lenet/batch_norm_1/moving_mean"]
    prefix = write(tmp_path, values)
    result = call("import-tf1", prefix, *LENET, "--classes", 7)
    assert result.exit_code == 1
    assert "--names" in result.stderr and "null leaves a layer unchanged" in result.stderr
    assert "--depth, --classes and --image-shape build a model of other shapes" in result.stderr
    names = hint_of(result.stderr)
    assert None in names.values() and len(set(names.values())) > 1
    Path("names.json").write_text(json.dumps(names))
    result = call("import-tf1", prefix, *LENET, "--classes", 7, "--names", "names.json")
    assert result.exit_code == 0, result.stderr


def test_shadows_are_an_option_here(checkpoint: str, tmp_path: Path) -> None:
    text = error(call("import-tf1", checkpoint, *LENET, "--shadows"))
    assert "Leave --shadows out" in text and "shadows=" not in text
    values = contrib_names(lenet((16, 16, 1), 4))
    shadow = {"lenet/logits/weights/ExponentialMovingAverage": values["lenet/logits/weights"]}
    result = call("import-tf1", write(tmp_path, values | shadow), *LENET)
    assert "--shadows would take it" in result.stdout and "shadows=" not in result.stdout


def test_a_checkpoint_that_has_no_name() -> None:
    for option in (("--list",), LENET):
        assert "'' names no file or folder" in error(call("import-tf1", "", *option), code=2)
    assert "There is no checkpoint in /" in error(call("import-tf1", "nope", "--list"))
