"""The options of all commands: their names, their help, and what they do not take."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from batchnorm_app.choices import MODELS
from batchnorm_app.cli import train as training
from batchnorm_app.runs.limits import ranges
from batchnorm_app.runs.settings import KINDS
from tests.app.cli.calling import Begun, call, error

pytestmark = pytest.mark.no_backend


def test_every_setting_has_an_option() -> None:
    commands = get_command(training.app)
    assert isinstance(commands, TyperGroup)
    assert tuple(commands.commands) == MODELS
    for name, command in commands.commands.items():
        names = set(get_type_hints(KINDS[name])) - {"model"}
        parameters = {parameter.name for parameter in command.params} - {"help"}
        assert parameters - names == {"output", "resume", "overwrite"}
        assert names <= parameters


def test_help_does_not_wait_for_a_backend() -> None:
    code = (
        "import batchnorm_app.cli, sys; sys.exit('keras' in sys.modules or 'numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    commands = (
        "",
        "train",
        "train lenet",
        "train resnet",
        "train gan",
        *"features sample statistics evaluate".split(),
    )
    for command in commands:
        ran = call(*command.split(), "--help")
        assert ran.exit_code == 0 and f" {command} [OPTIONS]".replace("  ", " ") in ran.output


def test_version() -> None:
    assert call("--version").stdout.startswith("batchnorm 0.")


def test_the_command_is_a_module_too() -> None:
    command = [sys.executable, "-m", "batchnorm_app", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("batchnorm 0.")


@pytest.mark.parametrize(
    "arguments, nearest",
    [
        (["lenett"], "lenet"),
        (["lenet", "--data", "fashion-mnits"], "fashion-mnist"),
        (["lenet", "--backend", "pytorch"], "torch"),
        (["lenet", "--optimizer", "Adam"], "adam"),
        (["resnet", "--block", "bottelneck"], "bottleneck"),
        (["resnet", "--decay", "kernel"], "kernels"),
        (["resnet", "--precision", "mixed-float16"], "mixed_float16"),
        (["gann"], "gan"),
        (["gan", "--conditioning", "klass"], "class"),
        (["gan", "--schedule", "cosin"], "cosine"),
        (["gan", "--data", "cifar"], "cifar10"),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_all(arguments: list[str], nearest: str) -> None:
    text = error(call("train", *arguments), code=2)
    assert f"did you mean '{nearest}'? Allowed: " in text


@pytest.mark.parametrize("name", ["vgg", "", "x" * 10**5, "\x1b[31m", ":smile:"])
def test_a_name_that_resembles_none_gets_no_suggestion(name: str) -> None:
    for arguments in ((name,), ("lenet", "--data", name), ("lenet", "--optimizer", name)):
        result = call("train", *arguments)
        text = error(result, code=2)
        assert "is unknown. Allowed: " in text and len(result.stderr) < 2000
        assert "\x1b" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "lenet", "--output"),
        ("train", "resnet", "--data-dir"),
        ("train", "gan", "--output"),
        ("features", "run", "--output"),
        ("sample", "run", "--output"),
        ("statistics", "run", "--output"),
        ("evaluate", "run", "--judge"),
        ("evaluate", "run", "--features"),
        ("benchmark", "--output"),
        ("import-tf1", "a", "--model", "lenet", "--output"),
        ("import-tf1", "a", "--model", "lenet", "--names"),
        ("import-tf1",),
        ("features",),
        ("sample",),
        ("statistics",),
        ("evaluate",),
    ],
)
@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_path_is_not_the_current_folder(arguments: tuple[str, ...], empty: str) -> None:
    text = error(call(*arguments, empty), code=2)
    assert f"{empty!r} names no file or folder; the current folder is called" in text


def test_a_folder_of_data_is_made_absolute(begun: list[Begun], tmp_path: Path) -> None:
    """A link that leads nowhere stays, so that an error can name it."""
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "other").symlink_to(tmp_path.parent)
    for folder in (".", "link", "other"):
        assert call("train", "lenet", "--data-dir", folder).exit_code == 0
    assert [training.settings.data_dir for training in begun] == [
        os.path.realpath(tmp_path),
        str(tmp_path / "link"),
        os.path.realpath(tmp_path.parent),
    ]


def test_an_unknown_command_gets_the_nearest_and_all() -> None:
    text = error(call("train", "lenett", "--epochs", 3), code=2)
    assert "'lenett' is unknown; did you mean 'lenet'? Allowed: lenet, resnet, gan." in text
    text = error(call("smaple"), code=2)
    assert "did you mean 'sample'? Allowed: " in text and "train" in text
    assert "No such option: --modle" in error(call("train", "--modle", "lenet"), code=2)


@pytest.mark.parametrize(
    "command, option, value",
    [
        ("train lenet", "--epochs", 0),
        ("train lenet", "--batch-size", 1),
        ("train lenet", "--seed", -1),
        ("train lenet", "--image-size", 8),
        ("train resnet", "--batch-size", 1),
        ("train resnet", "--momentum", 1),
        ("train resnet", "--weight-decay", -1),
        ("train gan", "--width", 0),
        ("train gan", "--steps", 0),
        ("train gan", "--batch-size", 1),
        ("train gan", "--latent-size", 0),
        ("train gan", "--discriminator-steps", 0),
        ("train gan", "--samples-every", 0),
        ("train gan", "--average", 1),
        ("train gan", "--average", -0.5),
        ("train gan", "--average", "nan"),
        ("train lenet", "--seed", 2**32),
        ("train lenet", "--learning-rate", "inf"),
        ("train lenet", "--learning-rate", "nan"),
        ("train lenet", "--learning-rate", 0),
        ("train lenet", "--data-dir", ""),
        ("train resnet", "--weight-decay", "nan"),
        ("train gan", "--discriminator-learning-rate", -1),
        ("sample run", "--count", 0),
        ("sample run", "--seed", -1),
        ("evaluate run", "--count", 0),
        ("evaluate run", "--train-count", 127),
        ("sample run", "--seed", 2**32),
        ("evaluate run", "--seed", 2**32),
        ("evaluate run", "--judge-epochs", 0),
        ("evaluate run", "--judge-epochs", 10**9),
        ("evaluate run", "--count", 10**9),
        ("evaluate run", "--train-count", 10**9),
    ],
)
def test_numbers_out_of_range_are_refused(command: str, option: str, value: object) -> None:
    assert option in error(call(*command.split(), option, value), code=2)


@pytest.mark.parametrize("name", KINDS)
def test_the_options_have_the_ranges_of_the_settings(
    name: str, begun: list[Begun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a run's config.json is held against; without them the command waits for Keras."""
    monkeypatch.setattr(training, "choose_backend", lambda *_: pytest.fail("too late"))
    schemas = {n: s for n, s in ranges(KINDS[name]).items() if s["type"] in ("integer", "number")}
    assert {"seed", "batch_size", "learning_rate"} < schemas.keys()
    for setting, schema in schemas.items():
        is_integer = schema["type"] == "integer"
        low = schema["minimum"] - (1 if is_integer else 0.1) if "minimum" in schema else 0
        high = schema["maximum"] * 1.1 + 1 if "maximum" in schema else schema["exclusiveMaximum"]
        option = "--" + setting.replace("_", "-")
        for value in (low, int(high) if is_integer else high):
            assert option in error(call("train", name, option, value), code=2)


@pytest.mark.parametrize("name", KINDS)
def test_the_ends_of_the_ranges_are_taken(name: str, begun: list[Begun]) -> None:
    integers = {n: s for n, s in ranges(KINDS[name]).items() if s["type"] == "integer"}
    for end in ("minimum", "maximum"):
        values = {setting: schema[end] for setting, schema in integers.items()}
        options = [part for n, v in values.items() for part in (f"--{n.replace('_', '-')}", v)]
        result = call("train", name, *options)
        assert result.exit_code == 0, result.output
        received = begun[-1].settings.to_json()
        assert {setting: received[setting] for setting in values} == values
