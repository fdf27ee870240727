"""The options of all commands: their names, their help, and what they do not take."""

import subprocess
import sys
from typing import get_type_hints

import keras
import pytest
from typer.core import TyperGroup
from typer.main import get_command

from batchnorm import data
from batchnorm.models.resnet import BLOCKS
from batchnorm.train import start
from batchnorm.train.optimizer import OPTIMIZERS, SCHEDULES
from batchnorm.train.settings import KINDS
from batchnorm_cli import options
from batchnorm_cli import train as training
from tests.cli.calling import call, error


def test_the_names_are_those_of_the_package() -> None:
    commands = get_command(training.app)
    assert isinstance(commands, TyperGroup)
    assert tuple(commands.commands) == tuple(start.TRAININGS) == tuple(KINDS)
    assert options.DATA == data.NAMES
    assert options.OPTIMIZERS == tuple(OPTIMIZERS)
    assert options.SCHEDULES == tuple(SCHEDULES)
    assert options.BLOCKS == BLOCKS
    for name in options.PRECISIONS:
        assert keras.dtype_policies.get(name).variable_dtype == "float32"
    for name, command in commands.commands.items():
        settings = set(get_type_hints(KINDS[name])) - {"model"}
        given = {parameter.name for parameter in command.params} - {"help"}
        assert given - settings == {"output", "resume", "overwrite"}
        assert settings <= given


def test_help_does_not_wait_for_a_backend() -> None:
    code = "import batchnorm_cli, sys; sys.exit('keras' in sys.modules or 'numpy' in sys.modules)"
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
    command = [sys.executable, "-m", "batchnorm_cli", "--version"]
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
        ("sample run", "--count", 0),
        ("sample run", "--seed", -1),
        ("evaluate run", "--count", 0),
        ("evaluate run", "--train-count", 127),
        ("evaluate run", "--judge-epochs", 0),
    ],
)
def test_numbers_out_of_range_are_refused(command: str, option: str, value: object) -> None:
    assert option in error(call(*command.split(), option, value), code=2)
